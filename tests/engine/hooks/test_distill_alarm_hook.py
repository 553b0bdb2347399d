"""Alarms of small trainings whose gradients, metrics and similarities are known."""

import json
import logging
import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmrazor.registry import HOOKS
from torch import nn

from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.engine.hooks import DistillAlarmHook, TeacherCheckHook, distill_alarm_hook
from dpk_mm.engine.hooks.distill_alarm_hook import SHARE, _mean_over_processes, gradient_norm
from dpk_mm.errors import UsageError
from dpk_mm.models.loss_parts.module_warmup import ModuleWarmup
from tests.helpers.forked import run_ranks
from tests.helpers.small_runs import Counted, build, classifier, distilled, runner


class Change(Hook):
    """Changes the losses of a model: each loss is multiplied by the factor of its first word."""

    priority = 'VERY_HIGH'

    def __init__(self, **factors):
        self.factors = factors

    def before_train(self, runner):
        model = unwrap(runner.model)
        loss = model.loss

        def changed(inputs, data_samples=None):
            losses = loss(inputs, data_samples)
            return {
                name: value * self.factors.get(name.split('.')[0], 1.0)
                for name, value in losses.items()
            }

        model.loss = changed


class Similarities(Hook):
    """What a policy would give: one similarity for each iteration."""

    def __init__(self, *values):
        self.values = values

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        policy = unwrap(runner.model).distiller.distill_losses['loss_kd'].mask_ratio
        policy.similarities = {'last': self.values[runner.iter]}


def model(**kwargs):
    return build(distilled(classifier(), classifier(16), **kwargs))


def alarm(**kwargs):
    return HOOKS.build(dict(type='mmrazor.DistillAlarmHook', interval=1, **kwargs))


@pytest.fixture
def warned():
    """What the hook warns of, and a function that listens to a run."""
    lines, loggers = [], []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    handler.addFilter(lambda record: 'DistillAlarmHook' in record.getMessage())

    def listen(run):
        run.logger.addHandler(handler)
        loggers.append(run.logger)
        return run

    yield lines, listen
    for logger in loggers:
        logger.removeHandler(handler)


def test_a_distillation_that_works_is_silent(tmp_path, warned):
    lines, listen = warned
    hook = alarm(evaluate_teacher=False)
    run = listen(runner(model(), tmp_path, Change(distill=1.0), hook))
    run.train()
    assert lines == [] and hook.alarms == {}
    shares = run.message_hub.get_scalar(f'train/{SHARE}').data[0]
    assert len(shares) == 4
    assert all(0.01 < share < 100 for share in shares)


def test_the_share_is_that_of_the_gradients(tmp_path):
    hook, found = alarm(evaluate_teacher=False), []
    run = runner(model(), tmp_path, hook, validation=False)

    class Look(Hook):
        priority = 'VERY_LOW'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            found.append(runner.message_hub.get_scalar(f'train/{SHARE}').current())

    def expected(losses):
        norms = []
        for part in ('student', 'distill'):
            total = sum(v.mean() for k, v in losses.items() if k.startswith(part) and 'loss' in k)
            parameters = [p for p in run.model.student.parameters() if p.requires_grad]
            grads = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
            norms.append(math.sqrt(sum((g**2).sum().item() for g in grads if g is not None)))
        wanted.append(norms[1] / norms[0])

    wanted = []
    parse = run.model.parse_losses
    run.model.parse_losses = lambda losses: (expected(losses), parse(losses))[1]
    run.register_hook(Look())
    run.train()
    assert found == pytest.approx(wanted, rel=1e-4)
    assert len(found) == 4


@pytest.mark.parametrize(
    ('factors', 'kind', 'words'),
    [
        (dict(distill=1e-6), 'low', 'learns nothing from the teacher: in 3 measurements'),
        (dict(distill=0.0), 'low', '(zero). Raise loss_weight of loss_kd, until'),
        (dict(distill=1e7), 'high', 'drowns the labels: in 3 measurements over 3 iterations'),
        (dict(student=0.0), 'high', '(infinite, since these have none). Lower loss_weight'),
    ],
)
def test_a_share_beyond_the_limits_is_said_once(tmp_path, warned, factors, kind, words):
    lines, listen = warned
    hook = alarm(evaluate_teacher=False)
    still = dict(optimizer=dict(type='SGD', lr=0.0))  # else such a gradient ends in NaN
    changed = Change(**factors)
    listen(runner(model(), tmp_path, changed, hook, validation=False, optim_wrapper=still)).train()
    assert list(hook.alarms) == [kind]
    assert words in hook.alarms[kind]
    assert lines == [f'DistillAlarmHook: {hook.alarms[kind]}']


def test_the_advice_is_the_factor_to_a_share_of_one(tmp_path):
    hook = alarm(evaluate_teacher=False)
    run = runner(model(), tmp_path, Change(distill=1e-6), hook, validation=False)
    run.train()
    share = run.message_hub.get_scalar(f'train/{SHARE}').data[0][:3]
    factor = 1 / math.exp(sum(math.log(s) for s in share) / 3)
    assert f'loss_kd about {factor:.1g}-fold, until' in hook.alarms['low']


def test_a_warmup_does_not_count(tmp_path):
    from dpk_mm.models.loss_parts.warmup import Warmup

    def low(done):
        network = model()
        network.distiller.distill_losses['loss_kd'].warmup = warmup = Warmup(3, 'Loss')
        warmup.done = done
        hook = alarm(evaluate_teacher=False)
        runner(network, tmp_path, Change(distill=0.0), hook, validation=False).train()
        return 'low' in hook.alarms

    assert not low(0)
    assert low(2)  # the factor is 1


@pytest.mark.parametrize(
    ('warmup', 'said'),
    [(100, False), (1, True), (dict(iterations=100, error=0.5), False)],
    ids=['going on', 'over', 'by the error'],
)
def test_a_warmup_of_the_modules_does_not_count(tmp_path, warmup, said):
    """The student's feature is detached, so the share is zero, whatever the weight of the loss."""
    cfg = distilled(classifier(), classifier(16))
    loss = cfg['distiller']['distill_losses']['loss_kd']
    loss['module_warmup'] = warmup
    if isinstance(warmup, dict):
        loss['transforms']['last']['prior'] = 'teacher'
    hook = alarm(evaluate_teacher=False)
    changed = Change(distill=1e-6)
    watch = dict(type='mmrazor.WarmupHook')
    run = runner(build(cfg), tmp_path, changed, hook, watch, validation=False)
    run.train()
    shares = run.message_hub.get_scalar(f'train/{SHARE}').data[0]
    assert len(shares) == 4 and shares[0] == 0
    assert ('low' in hook.alarms) == said


def test_a_warmup_of_the_modules_that_ended_by_its_error_counts_again():
    warmup = ModuleWarmup(['P4', 'P5'], 100, error=0.5)
    warmup.iteration = 3
    warmup.ended[0] = True
    assert distill_alarm_hook._warms_up(warmup)
    warmup.ended[1] = True
    assert not distill_alarm_hook._warms_up(warmup)


def test_after_the_stop_nothing_is_measured(tmp_path):
    hook = alarm(evaluate_teacher=False)
    stop = dict(type='mmrazor.StopDistillHook', stop_epoch=1)
    run = runner(model(), tmp_path, Change(distill=0.0), hook, stop, validation=False)
    run.train()
    assert hook.alarms == {}  # two iterations before it
    assert f'train/{SHARE}' not in run.message_hub.log_scalars


def test_similarity_that_falls(tmp_path, warned):
    lines, listen = warned
    hook = alarm(evaluate_teacher=False)
    cfg = dict(by_epoch=True, max_epochs=3)
    values = Similarities(0.5, 0.3, 0.4, 0.4, 0.3, 0.5)
    listen(runner(model(), tmp_path, values, hook, train_cfg=cfg, validation=False)).train()
    assert list(hook.alarms) == ['similarity']
    assert 'this one are last 0.400 and 0.400.' in lines[0]
    growing = alarm(evaluate_teacher=False)
    values = Similarities(0.5, 0.3, 0.4, 0.4, 0.5, 0.5)
    runner(model(), tmp_path, values, growing, train_cfg=cfg, validation=False).train()
    assert growing.alarms == {}


class ByClass(Counted):
    """With a list before the number, as ``SingleLabelMetric(average=None)`` gives it."""

    def compute_metrics(self, results):
        return dict(by_class=[1.0, 2.0], **super().compute_metrics(results))


@pytest.mark.parametrize(
    ('name', 'student', 'teacher', 'said'),
    [
        ('acc', 0.5, 0.6, False),
        ('acc', 0.5, 0.5, False),
        ('acc', 0.5, 0.4, True),
        ('loss', 0.5, 0.6, True),  # less is better
        ('loss', 0.5, 0.4, False),
        ('strange', 0.5, 0.4, False),  # what is better is not known
        ('acc', 0.5, None, False),
    ],
)
def test_the_metric_of_the_teacher(tmp_path, name, student, teacher, said):
    hook = alarm()
    run = runner(model(), tmp_path, hook, validation=False)
    hook.before_train(run)
    hook._asked_teacher = True
    hook.teacher_metrics = {} if teacher is None else {name: teacher}
    hook.after_val_epoch(run, {name: student, 'other': 1.0})
    hook.after_train(run)
    assert ('teacher' in hook.alarms) == said
    if said:
        assert (
            f'{name} is {teacher:.4g} for the teacher and 0.5 for the student'
            in (hook.alarms['teacher'])
        )


def test_metrics_by_class_are_passed_over(tmp_path):
    hook = alarm()
    run = runner(model(), tmp_path, hook, val_evaluator=[ByClass()])
    run.train()
    assert hook.teacher_metrics == {'acc': 2.0}
    hook.alarms.clear()
    hook.before_train(run)
    hook.after_val_epoch(run, {'by_class': [3.0], 'acc': 3.0})
    assert 'acc is 2 for the teacher and 3 for the student' in hook.alarms['teacher']


def test_rule_and_metric_can_be_given(tmp_path):
    hook = alarm(metric='strange', rule='less')
    run = runner(model(), tmp_path, hook, validation=False)
    hook.before_train(run)
    hook._asked_teacher, hook.teacher_metrics = True, {'strange': 0.6, 'acc': 0.1}
    hook.after_val_epoch(run, {'acc': 0.5, 'strange': 0.5})
    assert 'strange is 0.6' in hook.alarms['teacher']


def test_the_teacher_is_evaluated_once_and_leaves_the_run_as_it_was(tmp_path):
    runs, hook = [], alarm()
    for name, hooks in (('with', (hook,)), ('without', ())):
        run = runner(model(), tmp_path / name, *hooks)
        run.train()
        runs.append(run)
    # ``Counted`` counts the evaluations of its evaluator: the teacher's copy was made after the first
    assert hook.teacher_metrics == {'acc': 2.0}
    assert runs[0].val_evaluator.metrics[0].calls == runs[1].val_evaluator.metrics[0].calls == 2
    for a, b in zip(*(run.model.state_dict().values() for run in runs), strict=True):
        assert torch.equal(a, b)


def test_a_teacher_check_of_the_run_is_asked(tmp_path):
    check = TeacherCheckHook(1.0, 'acc')
    hook = alarm()
    runner(model(), tmp_path, check, hook).train()
    assert check.metrics == hook.teacher_metrics == {'acc': 1.0}
    # the student's first metric is 1 and its second 2
    assert 'acc is 1 for the teacher and 2 for the student' in hook.alarms['teacher']


def test_resumed_it_goes_on_counting_and_repeats_nothing(tmp_path, warned):
    lines, listen = warned

    def train(folder, epochs, **kwargs):
        hook = alarm(evaluate_teacher=False)
        cfg = dict(by_epoch=True, max_epochs=epochs)
        hooks = dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=1),
        )
        run = listen(
            runner(
                model(),
                folder,
                Change(distill=0.0),
                hook,
                train_cfg=cfg,
                default_hooks=hooks,
                validation=False,
                **kwargs,
            )
        )
        run.train()
        return hook

    first = train(tmp_path, 1)  # two measurements: not yet
    assert first.alarms == {} and lines == []
    second = train(tmp_path, 2, resume=True)
    assert list(second.alarms) == ['low'] and len(lines) == 1
    assert 'in 3 measurements over 3 iterations' in lines[0]
    third = train(tmp_path, 3, resume=True)
    assert third.alarms == second.alarms and len(lines) == 1


def test_gradient_norm():
    x = nn.Parameter(torch.tensor([1.0, 2.0]))
    y, unused = nn.Parameter(torch.tensor(3.0)), nn.Parameter(torch.ones(2))
    loss = 3 * x[0] + 4 * x[1] + 12 * y
    assert gradient_norm(loss, [x, y, unused]) == pytest.approx(13.0)
    assert gradient_norm(loss, [unused]) == 0.0
    assert gradient_norm(torch.tensor(5.0), [x]) == 0.0
    loss.backward()  # the graph is still there


def test_gradients_that_cannot_be_taken_are_said_and_do_not_end_the_run(tmp_path, monkeypatch):
    def refused(loss, parameters):
        raise RuntimeError('Checkpointing is not compatible with .grad()')

    monkeypatch.setattr(distill_alarm_hook, 'gradient_norm', refused)
    hook = alarm(evaluate_teacher=False)
    run = runner(model(), tmp_path, hook, validation=False)
    said = []
    monkeypatch.setattr(run.logger, 'info', said.append)
    run.train()
    assert run.iter == 4 and hook.alarms == {}
    assert f'train/{SHARE}' not in run.message_hub.log_scalars
    assert [line for line in said if 'Checkpointing is not compatible' in str(line)] == [
        'DistillAlarmHook: the gradient share cannot be measured (Checkpointing is not compatible '
        'with .grad()).'
    ]


def test_one_of_custom_hooks_takes_the_place_of_the_default(tmp_path):
    default, own = alarm(evaluate_teacher=False), alarm(evaluate_teacher=False, low=0.5)
    run = runner(model(), tmp_path, default, own, Change(distill=0.0), validation=False)
    run.cfg.default_hooks = dict(distill_alarm=dict(type='DistillAlarmHook'))
    run.train()
    assert default.alarms == {} and list(own.alarms) == ['low']


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (dict(interval=0), 'interval must be a whole number'),
        (dict(interval=True), 'interval must be a whole number'),
        (dict(low=0), '0 < low < high'),
        (dict(low=5, high=1), '0 < low < high'),
        (dict(low='small'), '0 < low < high'),
        (dict(rule='more'), "rule must be 'greater' or 'less'"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(UsageError, match=words):
        DistillAlarmHook(**arguments)


def test_a_student_that_is_not_trained_is_not_measured(tmp_path):
    network = model()
    network.student.requires_grad_(False)
    hook = alarm(evaluate_teacher=False)
    run = runner(network, tmp_path, Change(student=0.0), hook, validation=False)
    run.train()
    assert run.iter == 4 and hook.alarms == {}
    assert 'distill_alarm' not in torch.load(tmp_path / 'epoch_2.pth', weights_only=False)


def test_a_plain_model_is_refused(tmp_path):
    plain = build(classifier())
    with pytest.raises(UsageError, match='ImageClassifier without a student'):
        runner(plain, tmp_path, alarm()).train()


def _one_rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    network = nn.Linear(1, 1)
    both = _mean_over_processes((1.0, 0.25 if rank == 0 else 0.5), network)
    one = _mean_over_processes((1.0, 1.0) if rank == 0 else None, network)
    (Path(folder) / f'{rank}.json').write_text(json.dumps([both, one[2]]))
    dist.destroy_process_group()


def test_all_ranks_judge_alike(tmp_path):
    run_ranks(_one_rank, tmp_path, folder=tmp_path)
    found = [json.loads((tmp_path / f'{rank}.json').read_text()) for rank in range(2)]
    assert found == [[[1.0, 0.375, True], False]] * 2
