"""Hooks that own the mask ratio: they bind a policy to the losses, log it, save and restore it."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmrazor.registry import HOOKS

from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.errors import UsageError, did_you_mean

from ...models.losses import DPKLoss
from ...modules import (
    CKAMaskRatio,
    CosineMaskRatio,
    ExponentialMaskRatio,
    FixedMaskRatio,
    LinearMaskRatio,
    MaskRatioPolicy,
)
from .passes import is_iteration_based, iterations_of_a_pass, passes_so_far
from .precedence import gives_way

_KEY = 'mask_ratio'


class MaskRatioHook(Hook):
    """Base of the mask-ratio hooks.

    Before training the policy is bound to every ``DPKLoss`` of the model; after each iteration the ratio and, where
    there is one, the similarity of every stage go to the message hub as ``train/mask_ratio/<stage>`` and
    ``train/similarity/<stage>``, so that they are on the console and in every visualizer backend, until a
    ``StopDistillHook`` ends the distillation. Its state is saved with each checkpoint and restored at resume.

    Args:
        **policy: Arguments of the policy; see the class that each hook names. Numbers that may differ between stages
            take a dict by stage, such as ``ratio=dict(P4=0.5, P5=0.3)``.

    Raises:
        UsageError: (a ValueError) Here for bad arguments; before training if the model has no ``DPKLoss``, an argument
            by stage does not name the stages of the model, several hooks set the ratio, or two losses give a policy
            that averages over mini-batches a stage of the same name.
    """

    priority = 'NORMAL'
    policy_class: ClassVar[type[MaskRatioPolicy]]
    own_arguments: ClassVar[tuple[str, ...]] = ()

    def __init__(self, **policy: Any) -> None:
        policy.pop('_delete_', None)  # mmengine leaves it where no base has this key
        known = [*inspect.signature(self.policy_class).parameters, *self.own_arguments]
        for name in policy:
            if name not in known:
                raise UsageError(
                    f'{type(self).__name__} has no argument {name}{did_you_mean(name, known) or "."} It has '
                    f'{", ".join(known)}. Where it comes from a base config, begin the dict of the hook with '
                    '_delete_=True.'
                )
        try:
            self.policy = self.policy_class(**policy)
        except (TypeError, ValueError) as error:
            raise UsageError(f'{type(self).__name__}: {error}') from error

    def before_run(self, runner) -> None:
        """Binds the policy; before any checkpoint is loaded, so that resuming finds it."""
        if gives_way(self, MaskRatioHook, 'mask_ratio', runner):
            return
        model = unwrap(runner.model)
        losses = [module for module in model.modules() if isinstance(module, DPKLoss)]
        if not losses:
            raise UsageError(
                f'{type(self).__name__}: the model has no DPKLoss whose mask ratio could be set; take the hook out '
                'of the config, or add a DPKLoss to distiller.distill_losses.'
            )
        losses = [loss for loss in losses if loss.masks_tokens]
        if not losses:
            print_log(
                f'{type(self).__name__}: no stage of the DPKLoss masks tokens, so there is no mask ratio to set.',
                'current',
            )
            return
        stages = [stage for loss in losses for stage in loss.transforms]
        twice = sorted({stage for stage in stages if stages.count(stage) > 1})
        if twice and self.policy.has_state:
            raise UsageError(
                f'{type(self).__name__}: the stage {twice[0]} is in more than one DPKLoss, and window, momentum '
                'or one_step_late would mix their mini-batches; give the stages different names in transforms.'
            )
        try:
            self.policy.check_stages(dict.fromkeys(stages))
        except ValueError as error:
            raise UsageError(f'{type(self).__name__}: {error}') from error
        for loss in losses:
            loss.mask_ratio = self.policy

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Logs ratio and similarity of every stage, until the distillation is stopped."""
        if getattr(unwrap(runner.model), 'distillation_stopped', False):
            return
        for stage, ratio in self.policy.ratios.items():
            runner.message_hub.update_scalar(f'train/mask_ratio/{stage}', ratio)
        for stage, similarity in self.policy.similarities.items():
            runner.message_hub.update_scalar(f'train/similarity/{stage}', similarity)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Adds the policy's state."""
        checkpoint[_KEY] = self.policy.state_dict()

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Restores the policy's state at resume (not from ``load_from``)."""
        state = checkpoint.get(_KEY)
        if not runner._resume or state is None:
            return
        if state['type'] != type(self.policy).__name__:
            runner.logger.warning(
                f'{type(self).__name__}: the checkpoint was made with {state["type"]}; its mask-ratio state is ignored.'
            )
            return
        self.policy.load_state_dict(state)


@HOOKS.register_module()
class CKAMaskRatioHook(MaskRatioHook):
    """``pi = 1 - CKA`` of the mini-batch (Eq. 5-7); arguments of :class:`dpk_mm.modules.CKAMaskRatio`."""

    policy_class = CKAMaskRatio


@HOOKS.register_module()
class CosineMaskRatioHook(MaskRatioHook):
    """``pi = 1 - cosine``; arguments of :class:`dpk_mm.modules.CosineMaskRatio`."""

    policy_class = CosineMaskRatio


class ScheduleHook(MaskRatioHook):
    """Base of the hooks whose ratio depends on the time alone.

    Args:
        by_epoch: What the policy calls an epoch: with True a pass over the training data, also under an
            iteration-based loop, which counts none; with False an iteration.
        **policy: Arguments of the policy.
    """

    own_arguments = ('by_epoch',)

    def __init__(self, by_epoch: bool = True, **policy: Any) -> None:
        super().__init__(**policy)
        if not isinstance(by_epoch, bool):
            raise UsageError(
                f'{type(self).__name__}: by_epoch must be True or False, but is {by_epoch!r}.'
            )
        self.by_epoch = by_epoch

    def before_train(self, runner) -> None:
        """Says what a unit of the schedule is where the loop counts no epochs."""
        if self.by_epoch and is_iteration_based(runner):
            length = iterations_of_a_pass(runner.train_loop.dataloader)
            runner.logger.info(
                f'{type(self).__name__}: the loop counts iterations, so an epoch of the schedule is a pass over the '
                f'training data, {length} iterations; by_epoch=False changes the ratio with every iteration.'
            )

    def before_train_epoch(self, runner) -> None:
        """Advances the schedule."""
        self._advance(runner)

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Advances the schedule where an epoch does not do it."""
        if not self.by_epoch or is_iteration_based(runner):
            self._advance(runner)

    def _advance(self, runner) -> None:
        self.policy.set_epoch(passes_so_far(runner) if self.by_epoch else runner.iter)


@HOOKS.register_module()
class LinearMaskRatioHook(ScheduleHook):
    """Linear decay over epochs; arguments of :class:`dpk_mm.modules.LinearMaskRatio`, and ``by_epoch``."""

    policy_class = LinearMaskRatio


@HOOKS.register_module()
class ExponentialMaskRatioHook(ScheduleHook):
    """Exponential decay over epochs; arguments of :class:`dpk_mm.modules.ExponentialMaskRatio`, and ``by_epoch``."""

    policy_class = ExponentialMaskRatio


@HOOKS.register_module()
class FixedMaskRatioHook(MaskRatioHook):
    """One ratio for the whole training; arguments of :class:`dpk_mm.modules.FixedMaskRatio`."""

    policy_class = FixedMaskRatio
