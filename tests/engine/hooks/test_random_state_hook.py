import copy
import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

import dpk_mm  # noqa: F401
from dpk_mm.engine.hooks.random_state_hook import (
    RandomStateHook,
    SeededBatches,
    SeededIndices,
    make_resumable,
    seed_all,
)


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


class Draws(Dataset):
    """Each item is what the generators of the process that loads it give."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return dict(inputs=torch.tensor([index, *draw()], dtype=torch.float64))


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.seen = []

    def forward(self, inputs, mode='tensor'):
        x = torch.stack(list(inputs))
        if mode != 'loss':
            draw()  # a validation that draws, too
            return [x]
        self.seen.append((x, draw()))
        return dict(loss=self.linear(nn.functional.dropout(x.float())).square().mean())


class Stop(Exception):
    pass


class StopAt(Hook):
    priority = 'LOWEST'  # after the checkpoint was written

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        runner.message_hub.get_info('batch_idx', []).append(batch_idx)
        if runner.iter + 1 == self.iteration:
            raise Stop


def build(work_dir, workers=1, by_epoch=True, checkpoint=None, stop=None, batch_size=2, **kwargs):
    random.seed()  # what a new process starts with
    np.random.seed()
    torch.seed()
    sampler = dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=True)
    loader = dict(
        dataset=Draws(),
        batch_size=batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        sampler=sampler,
        collate_fn=dict(type='pseudo_collate'),
    )
    loop = dict(by_epoch=True, max_epochs=3) if by_epoch else dict(by_epoch=False, max_iters=15)
    model = Model()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)
    loop = kwargs.pop('train_cfg', loop)
    runner = Runner(
        model,
        str(work_dir),
        experiment_name=f'{work_dir.name}_{random.random()}',
        train_dataloader=loader,
        train_cfg=loop,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', **(checkpoint or {}))),
        custom_hooks=[StopAt(stop)],
        randomness=dict(seed=3),
        log_level='ERROR',
        **kwargs,
    )
    return make_resumable(runner)


def train(runner):
    """Trains, and ends the data workers: left to the garbage collector, that takes seconds."""
    try:
        runner.train()
    finally:
        iterator = runner.train_loop.dataloader._iterator
        if iterator is not None:
            iterator._shutdown_workers()


def assert_same(left, right):
    assert len(left) == len(right) > 0
    for (x, drawn), (y, also_drawn) in zip(left, right, strict=True):
        assert torch.equal(x, y) and drawn == also_drawn


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize(
    'by_epoch, every, stop',
    [
        (True, dict(by_epoch=True, interval=1), 12),  # resumed at an epoch's start, 10
        (True, dict(by_epoch=False, interval=4), 9),  # inside an epoch, 8
        (True, dict(by_epoch=False, interval=5), 5),  # at an epoch's end, by iterations
        (False, dict(by_epoch=False, interval=4), 9),
    ],
)
def test_a_resumed_run_sees_and_draws_the_same(tmp_path, workers, by_epoch, every, stop):
    whole = build(tmp_path / 'whole', workers, by_epoch, every)
    train(whole)
    assert len(whole.model.seen) == 15
    drawn = torch.cat([x for x, _ in whole.model.seen])[:, 1:]
    assert len(drawn.unique()) == drawn.numel()  # no number comes twice, in no epoch

    stopped = build(tmp_path / 'stopped', workers, by_epoch, every, stop)
    with pytest.raises(Stop):
        train(stopped)
    resumed = build(tmp_path / 'stopped', workers, by_epoch, every, resume=True)
    train(resumed)
    first = 15 - len(resumed.model.seen)
    assert 0 < first <= stop
    assert_same(resumed.model.seen, whole.model.seen[first:])
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    losses = [run.message_hub.get_scalar('train/loss').data[0].tolist() for run in (resumed, whole)]
    assert losses[0] == losses[1] and len(losses[0]) == 15


def test_another_number_of_workers_and_a_validation_change_nothing(tmp_path):
    whole = build(tmp_path / 'none', workers=0)
    train(whole)
    more = build(tmp_path / 'two', workers=2)
    train(more)
    assert_same(more.model.seen, whole.model.seen)


def test_hooks_see_the_place_in_the_epoch(tmp_path):
    places = []

    class Places(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            places.append((runner.epoch, batch_idx, runner.iter))

    every = dict(by_epoch=False, interval=3)
    with pytest.raises(Stop):
        train(build(tmp_path / 'run', 0, True, every, stop=4))
    resumed = build(tmp_path / 'run', 0, True, every, resume=True)
    resumed.register_hook(Places())
    train(resumed)
    assert places[:4] == [(0, 3, 3), (0, 4, 4), (1, 0, 5), (1, 1, 6)]
    assert places[-1] == (2, 4, 14)
    assert 'run_iter' not in vars(resumed.train_loop)


def test_another_length_of_the_epochs_is_said(tmp_path, monkeypatch):
    every = dict(by_epoch=False, interval=3)
    with pytest.raises(Stop):
        train(build(tmp_path / 'run', 0, True, every, stop=4))
    resumed = build(tmp_path / 'run', 0, True, every, batch_size=5, resume=True)
    warnings = []
    monkeypatch.setattr(resumed.logger, 'warning', warnings.append)
    train(resumed)
    assert any('5 iterations an epoch, this one has 2' in text for text in warnings)
    assert len(resumed.model.seen) == 6  # whole epochs


class Count(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        return dict(count=len(results))


@pytest.mark.parametrize(
    'every, stop, expected',
    [
        (dict(by_epoch=True, interval=1), 12, [2]),  # the checkpoint of epoch 2, validated after it
        (dict(by_epoch=True, interval=1), 6, [2]),  # of epoch 1, whose validation is not due
        (dict(by_epoch=False, interval=7), 8, [2]),  # inside epoch 2
        (dict(by_epoch=False, interval=10), 10, [2]),  # of its last iteration, the epoch not closed
    ],
)
def test_the_validation_after_the_checkpoint_is_done_again(tmp_path, every, stop, expected):
    loader = dict(dataset=Draws(), batch_size=5, sampler=dict(type='DefaultSampler', shuffle=False))
    loader['collate_fn'] = dict(type='pseudo_collate')
    validation = dict(val_dataloader=loader, val_cfg=dict(), val_evaluator=Evaluator(Count()))
    loop = dict(by_epoch=True, max_epochs=4, val_interval=2)
    with pytest.raises(Stop):
        train(build(tmp_path / 'run', 0, True, every, stop, train_cfg=loop, **validation))
    resumed = build(tmp_path / 'run', 0, True, every, train_cfg=loop, resume=True, **validation)
    epochs = []

    class Epochs(Hook):
        def after_val_epoch(self, runner, metrics=None):
            epochs.append(runner.epoch)

    resumed.register_hook(Epochs())
    train(resumed)
    assert epochs == [*expected, 4]


def test_ranks_and_seeds_draw_apart():
    streams = {}
    for key in ((0, 3, 0, 0), (0, 3, 1, 0), (0, 4, 0, 0), (1, 3, 0, 0), (0, 3, 0, 1)):
        seed_all(*key)
        streams[key] = draw()
    assert len({number for numbers in streams.values() for number in numbers}) == 15
    seed_all(0, 3, 0, 0)
    assert draw() == streams[0, 3, 0, 0]


def test_sending_indices_to_a_worker_seeds_nothing_here():
    indices = SeededIndices([3, 1], (2, 0, 0))
    seed_all(9)
    before = random.getstate()
    sent = pickle.loads(pickle.dumps(indices))
    assert random.getstate() == before
    assert list(sent) == [3, 1] and sent.seed == (2, 0, 0) and len(sent) == 2
    assert random.getstate() != before  # but the loading of them does


def test_a_batch_sampler_is_seen_through():
    inner = DataLoader(list(range(7)), batch_size=2, drop_last=True).batch_sampler
    seeded = SeededBatches(inner, seed=1)
    assert (len(seeded), seeded.batch_size, seeded.drop_last) == (3, 2, True)
    assert seeded.sampler is inner.sampler
    assert [list(batch) for batch in seeded] == [[0, 1], [2, 3], [4, 5]]
    seeded.start_epoch(2, skip=2)
    assert [list(batch) for batch in seeded] == [[4, 5]]
    assert [list(batch) for batch in seeded] == [[0, 1], [2, 3], [4, 5]]
    assert copy.deepcopy(seeded).batch_size == 2
    with pytest.raises(AttributeError):
        seeded.nothing  # noqa: B018


def test_going_through_the_data_again_draws_anew():
    seeded = SeededBatches([[0]], seed=1)
    (first,), (second,) = list(seeded), list(seeded)
    assert first.seed != second.seed
    seeded.start_epoch(0)
    assert next(iter(seeded)).seed == first.seed


def test_loaders_keep_what_hooks_ask_for(tmp_path):
    runner = make_resumable(build(tmp_path / 'run', 0))
    assert sum(isinstance(hook, RandomStateHook) for hook in runner.hooks) == 1  # asked for twice
    loader = runner.build_dataloader(runner._train_dataloader, seed=3)
    assert loader.batch_size == 2 and loader.sampler.shuffle and len(loader) == 5
    assert isinstance(loader.batch_sampler, SeededBatches)
