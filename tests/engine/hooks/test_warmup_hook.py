"""A warm-up follows the passes of the loop, whatever the loop counts, and after a resume."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import IterBasedTrainLoop
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from dpk_mm.engine.hooks import WarmupHook
from dpk_mm.engine.runner.build import build_runner
from dpk_mm.errors import UsageError
from dpk_mm.models.loss_parts.module_warmup import ModuleWarmup
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


FACTORS = []


@MODELS.register_module(name='WarmupSmall', force=True)
class Small(BaseModel):
    """One weight, and a loss whose factor is noted in each step."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Linear(1, 1)
        self.distiller = DecoupledKDLoss(warmup=4)

    def forward(self, inputs, mode='tensor'):
        FACTORS.append(self.distiller.warmup.factor())
        return dict(loss=self.scale(torch.as_tensor(inputs)[:, None]).square().mean())


def train(folder, epochs, **extra):
    loader = dict(
        dataset=[dict(inputs=1.0), dict(inputs=2.0)],
        batch_size=1,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    cfg = dict(
        model=dict(type='WarmupSmall'),
        work_dir=str(folder),
        experiment_name=f'warmup_{epochs}_{folder.name}',
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        log_level='ERROR',
        **extra,
    )
    FACTORS.clear()
    build_runner(Config(cfg)).train()
    return list(FACTORS)


def test_a_run_that_is_stopped_and_resumed(tmp_path):
    """``build_runner`` adds the hook; no config names it."""
    assert train(tmp_path, 3) == [0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    assert train(tmp_path, 5, resume=True) == [1.0, 1.0, 1.0, 1.0]


def test_the_iteration_of_a_warm_up_of_modules():
    warmup, hook = ModuleWarmup(['P4'], 3), WarmupHook()
    runner = runner_at([warmup], epoch=2, iteration=7)
    hook.before_train(runner)
    hook.before_train_iter(runner, 1)
    assert warmup.iteration == 7
