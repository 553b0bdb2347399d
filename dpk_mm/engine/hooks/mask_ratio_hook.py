"""Hooks that own the mask ratio: they bind a policy to the losses, log it, save and restore it."""

from __future__ import annotations

import difflib
import inspect
from typing import Any, ClassVar

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmrazor.registry import HOOKS

from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.errors import UsageError

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
            by stage does not name the stages of the model, or two losses give a policy that averages over
            mini-batches a stage of the same name.
    """

    priority = 'NORMAL'
    policy_class: ClassVar[type[MaskRatioPolicy]]
    own_arguments: ClassVar[tuple[str, ...]] = ()

    def __init__(self, **policy: Any) -> None:
        known = [*inspect.signature(self.policy_class).parameters, *self.own_arguments]
        for name in policy:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                raise UsageError(
                    f'{type(self).__name__} has no argument {name}'
                    f'{f", did you mean {close[0]}" if close else ""}; it has {", ".join(known)}. Where it comes '
                    'from a base config, begin the dict of the hook with _delete_=True.'
                )
        try:
            self.policy = self.policy_class(**policy)
        except (TypeError, ValueError) as error:
            raise UsageError(f'{type(self).__name__}: {error}') from error

    def before_run(self, runner) -> None:
        """Binds the policy; before any checkpoint is loaded, so that resuming finds it."""
        model = unwrap(runner.model)
        others = [
            hook
            for hook in getattr(runner, 'hooks', ())
            if isinstance(hook, MaskRatioHook) and hook is not self
        ]
        if others:
            raise UsageError(
                f'{type(self).__name__} and {type(others[0]).__name__} would both set the mask ratio; keep one, as '
                "default_hooks = dict(mask_ratio=dict(_delete_=True, type='mmrazor....', ...)), and take the other one "
                'out of custom_hooks.'
            )
