from pathlib import Path

from dpk_mm.analysis.step_time import measure_step_time
from dpk_mm.datasets import generate_shapes


def test_configs_take_turns_on_one_batch(tmp_path, monkeypatch):
    root = Path(__file__).parents[2]
    generate_shapes(tmp_path / 'data' / 'shapes', num_train=8, num_val=2)
    monkeypatch.chdir(tmp_path)
    names = ('none', 'dpk')
    configs = [str(root / f'configs/mini/faster_rcnn_{name}.py') for name in names]
    results = measure_step_time(configs, steps=2, warmup=1, device='cpu')
    assert [r.config for r in results] == ['faster_rcnn_none', 'faster_rcnn_dpk']
    assert results[0].ratio == 1
    for r in results:
        assert 0 < r.lower <= r.median <= r.upper
        assert r.peak_memory_mib is None
    assert results[1].ratio == results[1].median / results[0].median
