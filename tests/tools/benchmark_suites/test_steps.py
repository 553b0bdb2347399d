import json
import os

import pytest
import torch

from tools.benchmark_suites import steps as steps_module
from tools.benchmark_suites.batches import make_batch
from tools.benchmark_suites.mmrazor_losses import mmrazor_config
from tools.benchmark_suites.parts import WHOLE, Stopwatch, parts
from tools.benchmark_suites.report import markdown, table, write_json
from tools.benchmark_suites.steps import (
    MMRAZOR_METHODS,
    baseline,
    build_step,
    default_image_size,
    dpk_stages,
    floor_case,
    load_config,
    names_of,
    steps,
    with_losses,
)

DETECTOR = 'configs/mini/faster_rcnn_dpk.py'
CLASSIFIER = 'configs/mini/fashion_cnn_dpk.py'
SIZE = (64, 64)


def test_steps_of_a_classifier_compare_baseline_kd_one_stage_and_both():
    rows = steps(CLASSIFIER, rounds=1, device='cpu', batch_size=4, image_size=(28, 28))
    assert [r.case for r in rows] == [
        'student step + teacher forward (floor)',
        'baseline (student without a teacher)',
        'loss_kd only',
        'DPK, last',
        'DPK, second_last and last',
    ]
    assert rows[0].ratio is None and all(r.ratio > 0 and r.peak_mib > 0 for r in rows[1:])


def test_parts_add_up_to_the_whole_step():
    rows = parts(DETECTOR, 1, device='cpu', batch_size=2, image_size=SIZE, warmup=1)
    whole = next(r for r in rows if r.case == WHOLE)
    named = {r.case: r.seconds for r in rows if r.case != WHOLE}
    assert sum(named.values()) == pytest.approx(whole.seconds)
    expected = {
        'teacher forward',
        'gap and ratio',
        'mask',
        'encoders',
        'decoders',
        'criterion (FGD)',
    }
    expected |= {'backward of everything', 'optimizer', 'student forward and its losses'}
    assert expected <= set(named)


def test_a_stopwatch_does_not_count_inner_parts_twice():
    clock = Stopwatch('cpu')
    now = iter(range(10))
    clock._now = lambda: next(now)
    inner = clock.timed('inner', lambda: None)
    clock.timed('outer', inner)()  # outer 0..3, inner 1..2
    assert clock.seconds == {'inner': 1, 'outer': 2}


@pytest.mark.parametrize('method', MMRAZOR_METHODS)
def test_losses_of_mmrazor_train_on_the_same_pair(method):
    cfg = mmrazor_config(load_config(DETECTOR), method, (64, 64))
    model, optimizer = build_step(cfg, 'cpu')
    logs = model.train_step(make_batch(cfg, 2, (128, 128)), optimizer)
    found = {name for name in logs if name.startswith('distill.loss_')}
    assert found == {f'distill.loss_{level}' for level in range(4)}
    assert all(torch.isfinite(logs[name]) for name in found)


def test_an_unknown_method_names_the_known():
    with pytest.raises(ValueError, match='PKD.*FBKD.*nothing'):
        mmrazor_config(load_config(DETECTOR), 'nothing', (64, 64))


def test_configs_are_reduced_without_changing_them():
    cfg = load_config(CLASSIFIER)
    before = cfg.pretty_text
    assert dpk_stages(cfg) == ['second_last', 'last']
    assert list(with_losses(cfg, ['loss_kd']).model.distiller.distill_losses) == ['loss_kd']
    last = with_losses(cfg, ['loss_kd', 'loss_dpk'], ['last'])
    assert dpk_stages(last) == ['last']
    assert baseline(cfg).model.type == 'ImageClassifier'
    assert cfg.pretty_text == before


def test_the_mask_ratio_is_held():
    cfg = load_config(CLASSIFIER)
    model, optimizer = build_step(cfg, 'cpu', mask_ratio=0.4)
    model.train_step(make_batch(cfg, 8, (28, 28)), optimizer)
    (loss,) = [m for m in model.modules() if type(m).__name__ == 'DPKLoss']
    assert set(loss.mask_ratio.ratios.values()) == {0.4}
    assert loss.mask_ratio.similarities  # the gap is computed all the same


def test_image_size_comes_from_the_pipeline():
    assert default_image_size(load_config(DETECTOR)) == (128, 128)
    assert default_image_size(load_config('configs/dpk/imagenet/resnet34_resnet18.py')) == (
        224,
        224,
    )


def test_report_holds_all_rows(tmp_path):
    options = dict(warmup=0, with_memory=False)
    rows = steps(CLASSIFIER, 1, 'cpu', batch_size=4, image_size=(28, 28), **options)
    assert all(row.peak_mib is None for row in rows)
    write_json(rows, tmp_path / 'a' / 'out.json', environment=dict(cores=2))
    held = json.loads((tmp_path / 'a' / 'out.json').read_text())
    assert held['environment'] == dict(cores=2)
    assert [r['case'] for r in held['rows']] == [r.case for r in rows]
    assert table('step', rows).row_count == len(rows)
    assert all(f'| {r.case} |' in markdown(rows) for r in rows)


def test_names_are_as_short_as_they_can_be():
    names = ['a/kd.py', 'b/kd.py', 'c/b/kd.py', 'dpk.py', './dpk.py']
    root = os.getcwd()
    assert names_of(names) == {
        'a/kd': 'a/kd.py',
        f'{root}/b/kd.py': 'b/kd.py',
        f'{root}/c/b/kd.py': 'c/b/kd.py',
        'dpk': './dpk.py',
    }


def test_shared_settings_of_the_optimizer_are_the_students_too():
    cfg = load_config(CLASSIFIER)
    cfg.optim_wrapper.update(clip_grad=dict(max_norm=3.0), accumulative_counts=2)
    cfg.optim_wrapper.architecture.accumulative_counts = 4
    own = dict(cfg.optim_wrapper.architecture)
    for alone in (baseline(cfg), with_losses(cfg, ['loss_kd'])):
        assert alone.optim_wrapper == {**own, 'clip_grad': dict(max_norm=3.0)}
    assert cfg.optim_wrapper.accumulative_counts == 2 and 'distiller' in cfg.optim_wrapper


@pytest.mark.parametrize(('config', 'size'), [(CLASSIFIER, (28, 28)), (DETECTOR, SIZE)])
def test_the_floor_prepares_a_batch_once_and_trains_the_student(monkeypatch, config, size):
    cfg = load_config(config)
    data = make_batch(cfg, 2, size)
    models = []
    real = steps_module.build_step

    def build(*args, **kwargs):
        models.append(real(*args, **kwargs))
        return models[-1]

    monkeypatch.setattr(steps_module, 'build_step', build)
    case = floor_case(cfg, data, 'cpu', None)
    ((student, _),) = models
    calls = []
    student.data_preprocessor.register_forward_hook(lambda *args: calls.append(1))
    before = [p.detach().clone() for p in student.parameters() if p.requires_grad]
    case()
    after = [p for p in student.parameters() if p.requires_grad]
    assert calls == [1]
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
