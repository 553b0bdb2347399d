"""Ends the distillation in the middle of a training; the student trains on alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.runner import Runner
from mmrazor.engine.hooks import StopDistillHook as RazorStopDistillHook
from mmrazor.registry import HOOKS
from torch import nn

from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.errors import UsageError

from ...models.algorithms import DPKDistill
from ..optimizers.joint_optim_wrapper import JointOptimWrapper
from .passes import is_iteration_based, passes_so_far

#: What the distillation writes to the log.
DISTILLATION_LOGS = (
    'train/distill.',
    'train/distiller.',
    'train/mask_ratio/',
    'train/similarity/',
    'train/gradient/distill.',
    'train/gradient_cosine/distill.',
    'train/gradient_share/distill',
    'train/gradient_unweighted_share/distill.',
    'train/gradient_weight/distill.',
    'train/feature_distance/',
    'train/hybrid_error/',
)


@HOOKS.register_module(force=True)
class StopDistillHook(RazorStopDistillHook):
    """Stops the distillation at an epoch: mmrazor's hook of this name, which it takes the place of.

    From then on the teacher is not run, the total loss is the student's, and the parameters of the distiller stay as
    they are, weight decay and momentum included, with one optimizer or several, on one process or many. What was logged
    of the distillation (losses, ratios, gradients) ends, where mmengine would repeat the last values.

    Under an iteration-based loop an epoch is a pass over the training data.

    Args:
        stop_epoch: The first epoch without distillation, counted from 0.

    Raises:
        UsageError: (a ValueError) Here for a bad ``stop_epoch``; before training if the student has no loss of its own.
    """

    def __init__(self, stop_epoch: int) -> None:
        if isinstance(stop_epoch, bool) or not isinstance(stop_epoch, int) or stop_epoch < 0:
            raise UsageError(
                f'StopDistillHook: stop_epoch must be a whole number of at least 0, but is {stop_epoch!r}.'
            )
        super().__init__(stop_epoch)
        self._stopped = False

    def before_train(self, runner: Runner) -> None:
        """Checks that something is left to train."""
        model = unwrap(runner.model)
        self._stopped = False
        if not hasattr(model, 'distillation_stopped'):
            raise UsageError(
                f'StopDistillHook: the model, a {type(model).__name__}, distils nothing that could be stopped; take '
                'the hook out, or train a DPKDistill.'
            )
        if not getattr(model, 'calculate_student_loss', True):
            raise UsageError(
                'StopDistillHook: model.calculate_student_loss is False, so no loss is left when the distillation is '
                'stopped; set it to True, or take the hook out.'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Stops at the epoch, or again when the run is resumed after it."""
        self._stop_if_due(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """The same where the loop counts iterations."""
        if is_iteration_based(runner):
            self._stop_if_due(runner)

    def _stop_if_due(self, runner: Runner) -> None:
        if self._stopped or passes_so_far(runner) < self.stop_epoch:
            return
        self._stopped = True
        model = unwrap(runner.model)
        model.distillation_stopped = True
        runner.logger.info('Distillation has been stopped!')
        if isinstance(model, DPKDistill):
            _leave_out(runner.optim_wrapper, list(model.distiller.parameters()))
        scalars = runner.message_hub.log_scalars
        for name in [name for name in scalars if name.startswith(DISTILLATION_LOGS)]:
            del scalars[name]
        # another sum from here on, which the mean over the last iterations would mix with the old one
        scalars.pop('train/loss', None)


def _leave_out(optim_wrapper: Any, parameters: Sequence[nn.Parameter]) -> None:
    """No step changes the parameters any more, though they stay in the optimizer and its state."""
    if isinstance(optim_wrapper, JointOptimWrapper):
        parameters = optim_wrapper.leave_out(parameters)
        wrappers = list(optim_wrapper.values())
    else:
        wrappers = [optim_wrapper]
    if not parameters:
        return

    def drop_gradients(*_: Any) -> None:
        # An optimizer passes over what has no gradient. Under DistributedDataParallel it is one of zeros.
        for parameter in parameters:
            parameter.grad = None

    for wrapper in wrappers:
        if isinstance(getattr(wrapper, 'optimizer', None), torch.optim.Optimizer):
            wrapper.optimizer.register_step_pre_hook(drop_gradients)
