"""A pass over the data is the unit of schedules, whatever the loop counts."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from dpk_mm.checkpoint.student import read_student
from dpk_mm.engine.hooks import passes
from dpk_mm.engine.hooks.random_state_hook import SeededBatches
from dpk_mm.errors import UsageError
from tests.helpers.small_runs import Watch, build, classifier, distilled, runner

LINEAR = dict(type='mmrazor.LinearMaskRatioHook', decrement=0.1)
EXPONENTIAL = dict(type='mmrazor.ExponentialMaskRatioHook', initial=0.8, decay=0.5)


def ratios(folder, hook, infinite=True, **kwargs):
    """The ratio of every iteration, of 8 images in batches of 4: two iterations a pass."""
    found = []
    model = build(distilled(classifier(), classifier(16)))
    sampler = dict(type='InfiniteSampler' if infinite else 'DefaultSampler', shuffle=True)
    policy = lambda: model.distiller.distill_losses['loss_kd'].mask_ratio  # noqa: E731
    watch = Watch(
        after_train_iter=lambda runner, *a, **k: found.append(round(policy().ratios['last'], 6))
    )
    settings = dict(
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=6, val_interval=100),
        train_dataloader=dict(sampler=sampler),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3),
            logger=dict(type='LoggerHook', interval=1),
        ),
        log_processor=dict(by_epoch=False),
        validation=False,
        ratio=False,
    )
    run = runner(model, folder, dict(hook), watch, **{**settings, **kwargs})
    run.train()
    return found


@pytest.mark.parametrize(
    'hook, expected',
    [
        (LINEAR, [0.95, 0.95, 0.85, 0.85, 0.75, 0.75]),
        (EXPONENTIAL, [0.8, 0.8, 0.4, 0.4, 0.2, 0.2]),
        (dict(LINEAR, by_epoch=False), [0.95, 0.85, 0.75, 0.65, 0.55, 0.45]),
        (dict(EXPONENTIAL, by_epoch=False), [0.8, 0.4, 0.2, 0.1, 0.1, 0.1]),
    ],
)
def test_schedules_under_a_loop_of_iterations(hook, expected, tmp_path):
    assert ratios(tmp_path / 'whole', hook) == expected
    # resumed in the middle of a pass
    checkpoint = str(tmp_path / 'whole' / 'iter_3.pth')
    again = ratios(tmp_path / 'again', hook, resume=True, load_from=checkpoint)
    assert again == expected[3:]


@pytest.mark.parametrize('by_epoch', [True, False])
def test_schedules_under_a_loop_of_epochs(by_epoch, tmp_path):
    found = ratios(
        tmp_path,
        dict(LINEAR, by_epoch=by_epoch),
        infinite=False,
        train_cfg=dict(by_epoch=True, max_epochs=3, val_interval=100),
        log_processor=dict(by_epoch=True),
    )
    assert found == (
        [0.95, 0.95, 0.85, 0.85, 0.75, 0.75] if by_epoch else [0.95, 0.85, 0.75, 0.65, 0.55, 0.45]
    )


def test_bad_unit_of_a_schedule():
    from mmrazor.registry import HOOKS

    with pytest.raises(UsageError, match='by_epoch must be True or False, but is 3'):
        HOOKS.build(dict(LINEAR, by_epoch=3))
    with pytest.raises(UsageError, match='no argument by_epochs; did you mean by_epoch'):
        HOOKS.build(dict(LINEAR, by_epochs=True))
    with pytest.raises(UsageError, match='has no argument by_epoch'):
        HOOKS.build(dict(type='mmrazor.CKAMaskRatioHook', by_epoch=True))


@pytest.mark.parametrize(
    'processes, samples, batch, expected',
    [
        (1, 12, 4, 3),
        (2, 12, 4, 2),
        (2, 16, 4, 2),
        (4, 3, 4, 1),
        (8, 1000, 2, 63),
    ],
)
def test_a_pass_of_several_processes(monkeypatch, processes, samples, batch, expected):
    """Each sampler says its length in another way: the infinite one that of the data, the other its own share."""
    monkeypatch.setattr(passes, 'get_world_size', lambda: processes)
    for kind in (InfiniteSampler, DefaultSampler):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (0, processes))
        data = list(range(samples))
        loader = DataLoader(data, batch_size=batch, sampler=kind(data))
        assert passes.iterations_of_a_pass(loader) == expected, kind


@pytest.mark.parametrize('kind', [InfiniteSampler, DefaultSampler])
@pytest.mark.parametrize('seeded', [True, False])
def test_a_pass_with_a_batch_sampler(monkeypatch, kind, seeded):
    """As mmengine builds it for AspectRatioBatchSampler: the loader's own sampler is torch's, of all samples."""
    monkeypatch.setattr(passes, 'get_world_size', lambda: 4)
    monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (0, 4))
    data = list(range(64))
    batches = BatchSampler(kind(data), 2, drop_last=False)
    if seeded:
        batches = SeededBatches(batches, seed=1)
    loader = DataLoader(data, sampler=None, batch_sampler=batches)
    assert len(loader.sampler) == 64
    assert passes.iterations_of_a_pass(loader) == 8


def test_data_without_a_length_are_refused():
    class Endless(IterableDataset):
        def __iter__(self):
            yield 0

    with pytest.raises(UsageError, match='train_dataloader.dataset has no length'):
        passes.iterations_of_a_pass(DataLoader(Endless()))


def test_without_a_loop_of_iterations_the_epoch_counts():
    assert passes.passes_so_far(SimpleNamespace(epoch=3)) == 3


def test_the_students_files_count_finished_iterations(tmp_path):
    """The metric grows, so the last validation is the best; a resumed run goes on from it."""
    model = build(distilled(classifier(), classifier(16)))
    run = runner(
        model,
        tmp_path,
        dict(type='mmrazor.StudentCheckpointHook'),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=5, val_interval=2),
        train_dataloader=dict(sampler=dict(type='InfiniteSampler', shuffle=True)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)),
        log_processor=dict(by_epoch=False),
    )
    run.train()
    best, last = (read_student(tmp_path / f'student_{name}.pth')[1] for name in ('best', 'last'))
    assert best['iter'] == last['iter'] == 5
    assert best['value'] == 3.0  # after the iterations 2, 4 and 5
    fourth = torch.load(tmp_path / 'iter_4.pth', weights_only=False)
    assert fourth['student_checkpoint_hook'] == dict(metric='acc', value=1.0)
