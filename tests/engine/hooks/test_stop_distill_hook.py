"""After the stop: the distiller stays, the student trains on, the log is of the student alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmrazor.registry import HOOKS

from dpk_mm.engine.hooks import StopDistillHook
from dpk_mm.engine.optimizers.joint_optim_wrapper import JointOptimWrapper
from dpk_mm.errors import UsageError
from tests.helpers.small_runs import Watch, build, classifier, distilled, runner

ROOT = Path(__file__).parents[3]
STOP = dict(type='mmrazor.StopDistillHook', stop_epoch=1)
SGD = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.1)
SINGLE = dict(optimizer=SGD)
JOINT = dict(
    constructor='mmrazor.DPKOptimWrapperConstructor',
    architecture=dict(optimizer=SGD),
    distiller=dict(optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.1)),
    clip_grad=dict(max_norm=1.0),
)
DISTILLATION = ('distill', 'mask_ratio', 'similarity')


def state(model, part):
    return {name: p.detach().clone() for name, p in getattr(model, part).named_parameters()}


def stopped_run(folder, optim_wrapper, *hooks, **kwargs):
    """Two iterations with the distillation, then as many as there are without.

    Returns:
        (model, runner, parameters of both parts at every iteration, names in the log at every iteration).
    """
    model = build(distilled(classifier(), classifier(16)))
    states, logs = [], []

    def record(run, *_, **__):
        states.append({part: state(model, part) for part in ('architecture', 'distiller')})
        tag, _ = run.log_processor.get_log_after_iter(run, 0, 'train')
        logs.append(tag)

    run = runner(
        model,
        folder,
        STOP,
        *hooks,
        Watch(after_train_iter=record),
        optim_wrapper=optim_wrapper,
        train_cfg=kwargs.pop('train_cfg', dict(by_epoch=True, max_epochs=3)),
        validation=False,
        **kwargs,
    )
    run.train()
    return model, run, states, logs


def check(states, logs, first=2):
    """The values that have to be there, with the stop after ``first`` iterations."""
    for before, after in zip(states, states[1:], strict=False):
        for name, value in after['architecture'].items():
            assert not torch.equal(value, before['architecture'][name]), name
    moved = [
        not torch.equal(states[0]['distiller'][n], v) for n, v in states[1]['distiller'].items()
    ]
    assert first == 1 or all(moved)
    for later in states[first:]:
        for name, value in later['distiller'].items():
            assert torch.equal(value, states[first - 1]['distiller'][name]), name
    for log in logs[:first]:
        assert any(name.startswith('distill.') for name in log)
        assert any(name.startswith('mask_ratio') for name in log)
    for log in logs[first:]:
        assert [name for name in log if name.startswith(DISTILLATION)] == []
        assert 'student.loss' in log
    # no mean with the sums of before
    assert logs[first]['loss'] == pytest.approx(logs[first]['student.loss'], rel=0.5)


@pytest.mark.parametrize('optim_wrapper', [SINGLE, JOINT], ids=['single', 'joint'])
def test_the_distiller_rests_and_the_student_trains_on(optim_wrapper, tmp_path):
    ran = []
    model = None
    measure = dict(type='mmrazor.LossGradientHook', interval=1)
    model, run, states, logs = stopped_run(
        tmp_path,
        optim_wrapper,
        measure,
        Watch(before_train_iter=lambda *a, **k: ran.append(1)),
    )
    check(states, logs)
    assert any(name.startswith('gradient/distill') for name in logs[1])
    assert not any('distill' in name for log in logs[2:] for name in log)
    assert len(ran) == 6 and model.distillation_stopped
    assert isinstance(run.optim_wrapper, JointOptimWrapper) == (optim_wrapper is JOINT)


def test_the_total_is_the_students_loss_from_the_first_iteration_on(tmp_path):
    _, run, _, logs = stopped_run(tmp_path, SINGLE)
    totals = run.message_hub.get_scalar('train/loss').data[0]
    own = run.message_hub.get_scalar('train/student.loss').data[0]
    assert len(totals) == 4 and len(own) == 6
    torch.testing.assert_close(torch.tensor(totals), torch.tensor(own[2:]))
    assert logs[2]['loss'] == pytest.approx(totals[0])


def test_a_loop_of_iterations_stops_after_passes(tmp_path):
    _, _, states, logs = stopped_run(
        tmp_path,
        SINGLE,
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=5, val_interval=100),
        train_dataloader=dict(sampler=dict(type='InfiniteSampler', shuffle=False)),
        log_processor=dict(by_epoch=False),
    )
    check(states, logs)
    assert len(states) == 5


@pytest.mark.parametrize('optim_wrapper', [SINGLE, JOINT], ids=['single', 'joint'])
def test_a_resumed_run_stays_stopped(optim_wrapper, tmp_path):
    checkpoints = dict(checkpoint=dict(type='CheckpointHook', interval=1))
    _, _, whole, _ = stopped_run(tmp_path / 'a', optim_wrapper, default_hooks=checkpoints)
    model, _, again, logs = stopped_run(
        tmp_path / 'b',
        optim_wrapper,
        default_hooks=checkpoints,
        resume=True,
        load_from=str(tmp_path / 'a' / 'epoch_2.pth'),
    )
    assert model.distillation_stopped and len(again) == 2
    for one, other in zip(whole[4:], again, strict=True):
        for name, value in one['distiller'].items():
            assert torch.equal(value, other['distiller'][name]), name
        for name, value in one['architecture'].items():
            torch.testing.assert_close(value, other['architecture'][name])
    assert not any(name.startswith(DISTILLATION) for log in logs for name in log)


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(UsageError, match='stop_epoch must be a whole number of at least 0'):
        HOOKS.build(dict(STOP, stop_epoch=-1))
    assert isinstance(HOOKS.build(STOP), StopDistillHook)
    model = build(distilled(classifier(), classifier(16), calculate_student_loss=False))
    with pytest.raises(UsageError, match='no loss is left when the distillation is stopped'):
        runner(model, tmp_path, STOP).train()
    with pytest.raises(UsageError, match='a ImageClassifier, distils nothing'):
        runner(build(classifier()), tmp_path, STOP).train()


OPTIMIZERS = dict(single=SINGLE, joint=JOINT, unused=SINGLE)
FIND = dict(single=False, joint=False, unused=True)
RANK = """
import sys
import torch, torch.distributed as dist
sys.path[:0] = [sys.argv[3], sys.argv[4]]
import test_stop_distill_hook as t
rank = int(sys.argv[1])
dist.init_process_group('gloo', init_method='file://' + sys.argv[2], rank=rank, world_size=2)
for name, optim_wrapper in t.OPTIMIZERS.items():
    _, run, states, logs = t.stopped_run(
        sys.argv[2] + name,
        optim_wrapper,
        launcher='pytorch',
        model_wrapper_cfg=dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=t.FIND[name],
        ),
        size=16,
    )
    t.check(states, logs)
    torch.save(states[-1], f'{sys.argv[2]}.{name}.{rank}.pth')
dist.destroy_process_group()
"""


def test_two_processes_train_on(tmp_path):
    """DistributedDataParallel waits for the gradients of all parameters that it was built with."""
    store, here = tmp_path / 'store', Path(__file__).parent
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1', LOCAL_RANK='0')
    helpers = str(here.parents[1] / 'helpers')
    processes = [
        subprocess.Popen(
            [sys.executable, '-W', 'ignore', '-c', RANK, str(rank), str(store), str(here), helpers],
            env=env,
            cwd=tmp_path,
        )
        for rank in range(2)
    ]
    assert [p.wait(timeout=300) for p in processes] == [0, 0]
    for name in OPTIMIZERS:
        first, second = (
            torch.load(f'{store}.{name}.{rank}.pth', weights_only=True) for rank in range(2)
        )
        for part in first:
            for key, value in first[part].items():
                assert torch.equal(value, second[part][key]), key
    single, unused = (
        torch.load(f'{store}.{name}.0.pth', weights_only=True) for name in ('single', 'unused')
    )
    for part in single:
        for key, value in single[part].items():
            torch.testing.assert_close(value, unused[part][key])
