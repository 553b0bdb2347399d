import json

import pytest
import torch
from mmengine.hooks import Hook

from dpk_mm.analysis.report.collect import collect, milliseconds_per_image
from tests.helpers.small_runs import build, classifier, distilled, runner


class Collect(Hook):
    """Collects at the end of a training."""

    priority = 'LOWEST'

    def after_train(self, runner):
        self.mode = runner.model.training
        before = {k: v.clone() for k, v in runner.model.state_dict().items()}
        self.record = collect(runner, 12.34, 0)
        self.same = all(torch.equal(before[k], v) for k, v in runner.model.state_dict().items())
        self.mode_kept = runner.model.training == self.mode


def record_of(model, folder, *hooks, **kwargs):
    last = Collect()
    runner(model, folder, *hooks, last, **kwargs).train()
    assert last.same and last.mode_kept
    return json.loads(json.dumps(last.record))


def test_a_distillation(tmp_path):
    model = build(distilled(classifier(), classifier(16)))
    hooks = (
        dict(type='mmrazor.StudentCheckpointHook'),
        dict(type='mmrazor.DistillAlarmHook', interval=1),
        # the record has to be of the averaged weights, and the raw ones stay
        dict(type='EMAHook'),
    )
    record = record_of(model, tmp_path, *hooks)
    assert record['missing'] == []
    teacher, student = record['models']
    assert (teacher['role'], student['role']) == ('teacher', 'student')
    assert teacher['parameters'] == sum(p.numel() for p in model.teacher.parameters())
    assert student['parameters'] == sum(p.numel() for p in model.student.parameters())
    assert teacher['metrics'] == {'acc': 2.0}
    for found in (teacher, student):
        assert found['speed']['milliseconds'] > 0 and 1 <= found['speed']['images'] <= 10
    assert record['metric'] == 'acc'
    assert (record['seconds'], record['iterations'], record['epochs']) == (12.3, 4, 2)
    assert record['examples']['kind'] == 'confusions'
    assert set(record['examples']['right']) == {'teacher', 'student'}
    environment = dict(record['environment'])
    assert torch.__version__ in environment['packages'] and 'dpk_mm' in environment['packages']
    assert environment['seed'] == '0' and environment['optimizer'] == 'SGD in OptimWrapper'


@pytest.mark.parametrize('by_epoch', [True, False])
def test_validations_are_counted_as_the_log_does(tmp_path, by_epoch):
    hooks = dict(logger=dict(type='LoggerHook', log_metric_by_epoch=by_epoch))
    record = record_of(build(classifier()), tmp_path, default_hooks=hooks)
    assert record['by_epoch'] is by_epoch


@pytest.mark.parametrize('on_ema', [True, False])
def test_an_ema_hook_that_evaluates_both_sets_is_not_asked_to(tmp_path, monkeypatch, on_ema):
    """It would evaluate on all ranks, and the report is made on one."""
    from mmpretrain.engine.hooks import EMAHook

    ema = EMAHook(momentum=0.5, evaluate_on_ema=on_ema, evaluate_on_origin=True)
    network = build(classifier())
    seen = {}

    def look(*args, **kwargs):
        seen['weight'] = network.head.fc.weight.clone()

    monkeypatch.setattr('dpk_mm.analysis.report.collect.collect_examples', look)
    last = Collect()
    made = runner(network, tmp_path, ema, last)
    made.train()
    assert made.val_loop.evaluator.metrics[0].calls == (4 if on_ema else 2)  # of two validations
    assert last.same and last.mode_kept
    averaged = ema.ema_model.module.head.fc.weight
    assert not torch.equal(averaged, network.head.fc.weight)
    assert torch.equal(seen['weight'], averaged if on_ema else network.head.fc.weight)


def test_a_teacher_of_other_classes_is_in_no_example(tmp_path):
    head = dict(type='LinearClsHead', num_classes=7, in_channels=128)
    record = record_of(build(distilled(classifier(), classifier(16, head=head))), tmp_path)
    assert [model['role'] for model in record['models']] == ['teacher', 'student']
    assert set(record['examples']['right']) == {'student'} and record['missing'] == []


def test_a_teacher_of_another_image_size(tmp_path):
    model = build(distilled(classifier(), classifier(16), teacher_input_size=(96, 32)))
    seen = set()
    model.teacher.backbone.register_forward_pre_hook(
        lambda module, args: seen.add(tuple(args[0].shape[2:]))
    )
    record = record_of(model, tmp_path)
    assert record['missing'] == [] and set(record['examples']['right']) == {'teacher', 'student'}
    assert seen == {(96, 32)}  # in training, for the speed and the examples


def test_a_plain_training_by_iterations_without_validation(tmp_path):
    cfg = dict(type='IterBasedTrainLoop', max_iters=2)
    record = record_of(build(classifier()), tmp_path, train_cfg=cfg, validation=False)
    (model,) = record['models']
    assert model['role'] == 'model' and model['speed'] is None
    assert record['epochs'] is None and not record['by_epoch']
    assert record['examples'] is None and record['metric'] is None and record['alarms'] == []


def test_what_fails_is_missing_and_the_rest_is_there(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError('no memory')

    monkeypatch.setattr('dpk_mm.analysis.report.collect.collect_examples', fail)
    monkeypatch.setattr('dpk_mm.analysis.report.collect.milliseconds_per_image', fail)
    record = record_of(build(classifier()), tmp_path)
    assert record['missing'] == [
        'speed of the model: RuntimeError: no memory',
        'examples: RuntimeError: no memory',
    ]
    assert record['models'][0]['parameters']


def test_speed_is_the_median_of_single_images(tmp_path, monkeypatch):
    made = runner(build(classifier()).eval(), tmp_path)
    seconds = iter([9, 9, 1, 5, 2] + [3] * 20)
    now = [0.0]
    batches = []

    def val_step(batch):
        batches.append(len(batch['inputs']))
        now[0] += next(seconds) / 100
        return []

    monkeypatch.setattr('dpk_mm.analysis.report.collect.time.perf_counter', lambda: now[0])
    monkeypatch.setattr(made.model, 'val_step', val_step)
    _ = made.val_loop
    # of the ten after those two: 1, 5, 2 and seven times 3
    found = milliseconds_per_image(made, made.model)
    assert found == dict(milliseconds=30.0, images=10)
    assert batches == [1] * 12  # two of them to warm up
