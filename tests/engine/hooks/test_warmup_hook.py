"""A warm-up follows the passes of the loop, whatever the loop counts, and after a resume."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import IterBasedTrainLoop
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from dpk_mm.engine.hooks import WarmupHook
from dpk_mm.errors import UsageError
from dpk_mm.models.losses.decoupled_kd_loss import DecoupledKDLoss


def runner_at(losses, epoch=0, iteration=0, loader=None):
    loop = SimpleNamespace(dataloader=loader)
    if loader is not None:
        loop = IterBasedTrainLoop.__new__(IterBasedTrainLoop)
        loop.dataloader = loader
    model = nn.ModuleDict(dict(distiller=nn.ModuleList(losses)))
    return SimpleNamespace(model=model, train_loop=loop, epoch=epoch, iter=iteration)


def test_epochs_of_a_run_and_of_a_resumed_one():
    loss, plain = DecoupledKDLoss(warmup=4), DecoupledKDLoss()
    hook, factors = WarmupHook(), []
    for epoch in range(5):
        runner = runner_at([loss, plain], epoch)
        if epoch in (0, 3):  # the fourth pass is that of a resumed run
            hook = WarmupHook()
            hook.before_train(runner)
        hook.before_train_epoch(runner)
        hook.before_train_iter(runner, 0)
        factors.append(loss.warmup.factor())
    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert plain.warmup.factor() == 1.0


def test_passes_of_a_loop_that_counts_iterations():
    loader = DataLoader(TensorDataset(torch.zeros(10)), batch_size=4)  # 3 iterations a pass
    loss, hook, factors = DecoupledKDLoss(warmup=2), WarmupHook(), []
    for iteration in range(7):
        runner = runner_at([loss], 0, iteration, loader)
        if iteration == 0:
            hook.before_train(runner)
        hook.before_train_iter(runner, iteration)
        factors.append(loss.warmup.factor())
    assert factors == [0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0]


class Endless(IterableDataset):
    def __iter__(self):
        yield from ()


def test_data_without_a_length():
    loader = DataLoader(Endless())
    WarmupHook().before_train(runner_at([DecoupledKDLoss()], loader=loader))
    with pytest.raises(UsageError, match='DecoupledKDLoss has a warm-up in passes .* no length'):
        WarmupHook().before_train(runner_at([DecoupledKDLoss(warmup=1)], loader=loader))
