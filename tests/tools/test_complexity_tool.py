import json
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(monkeypatch):
    """Runs the tool in this process: starting another one would take longer than the work."""
    monkeypatch.chdir(ROOT)

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', ['complexity.py', *map(str, arguments)])
        runpy.run_path(str(ROOT / 'tools/analysis/complexity.py'), run_name='__main__')

    return call


def test_command_prints_and_writes_the_counts(tmp_path, run, capsys):
    out = tmp_path / 'complexity.json'
    config = 'configs/mini/faster_rcnn_dpk.py'
    run(config, '--shape', 64, 96, '--mask-ratio', 0.25, '--out', out)
    printed = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found['config'] == config
    assert found['image_shape'] == [64, 96]
    assert found['mask_ratio'] == 0.25
    assert found['proposals'] == 200
    rows = {row['name']: row for row in found['rows']}
    assert rows['loss_dpk.P5']['input_shapes'] == [[1, 64, 2, 3], [1, 64, 2, 3]]
    for row in found['rows']:
        assert row['activation_bytes'] == 4 * row['activations']
        line = next(text for text in printed.splitlines() if f' {row["name"]} ' in text)
        assert f' {row["parameters"]:,} ' in line
        assert f' {row["flops"] / 1e9:,.3f} ' in line
    assert 'one image of 64x96 (height x width), mask ratio 0.25' in printed
    assert 'Second stage: for 200 proposals.' in printed
    assert 'aten::gelu' in printed


def test_mistake_is_told_in_one_sentence(run):
    with pytest.raises(SystemExit) as ended:
        run('configs/mini/nothing.py')
    assert str(ended.value).startswith('complexity.py: there is no config configs/mini/nothing.py')
