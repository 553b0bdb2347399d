"""A loss weight that follows from the share of the gradient that a distillation is to have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmrazor.registry import HOOKS
from torch import Tensor

from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.errors import UsageError, did_you_mean

from .feature_gradients import (
    STUDENT,
    FeatureGradient,
    averaged_over_ranks,
    check_names,
    check_no_connector,
    distiller_of,
    feature_gradients,
    losses_on_features,
)
from .loss_gradient_hook import listen_to_losses
from .loss_names import monitor_name
from .loss_sums import total
from .measuring import loss_scale, on_every_rank

#: Intervals for which a feature without a gradient is measured in every iteration while others have their weights.
_PATIENCE = 10
_KEY = 'gradient_share'
REFERENCES = ('all', 'feature')


@HOOKS.register_module()
class GradientShareHook(Hook):
    """Weighs a distillation loss so that its gradient on the student's features is a chosen share of the task's.

    Every ``interval`` iterations the norms of two gradients on each feature are measured, over the whole mini-batch:
    that of the student's own losses, and that of the distillation loss on this feature alone. The weight is::

        weight = share * mean of task / mean of distill

    where ``task`` is by default the norm over all features that the loss is given: on a level to which hardly an object
    belongs the task has no gradient of its own that could be a measure. The means are geometric, exponential moving
    averages of the logarithms over the measurements: new modules begin with gradients of a hundred times their later
    size, of which an arithmetic mean would speak for hundreds of iterations. A task without any gradient, as in a batch
    without objects, is left out of them. Each feature has a weight, P4 and P5 of a neck or the stages of a backbone; it
    multiplies what the loss sends to the student there, and the loss's own modules are trained with the weight that the
    loss has. What the loss's ``loss_weight`` or a level's ``weight`` is makes no
    difference to the student's gradient at a feature then, but to the modules' with SGD. Logged are

    - ``train/gradient_unweighted_share/distill.<loss>.<feature>``: the share that was measured, without the weight of
      this hook (``gradient_share`` of a ``LossGradientHook`` has it in it);
    - ``train/gradient_weight/distill.<loss>.<feature>``: that weight;
    - ``train/gradient_cosine/distill.<loss>.<feature>``: the cosine of the two gradients.

    The logged losses are those without it. All ranks have the same weights, of the mean over their squared norms. The
    averages are saved with each checkpoint and restored at resume. A measurement that is not finite is left out. A
    feature on which the task or the distillation had no gradient yet (as in a warm-up of the modules) is measured again
    in every iteration until both have one, for ten intervals at most once another one has its weight; where neither
    ``share`` nor the loss names features, one that the loss does not use is not waited for.
    Several losses have a hook each.

    Args:
        share: Norm of the distillation's gradient over that of the task's, > 0: for all features of the loss, or by
            feature, such as ``dict(P4=0.5, P5=0.2)``; those that are left out keep the weight of the loss. By default
            the features of a ``DPKLoss`` are its stages, and of another loss all that it is given.
        loss: Name of the loss in ``distill_losses``; not needed where there is one alone that looks at features.
        interval: Iterations between two measurements, at least 1.
        momentum: Of the averages, in [0, 1); 0 takes the last measurement alone, and with 0.5 those before the last
            three count for an eighth.
        max_weight: The weight is never larger.
        reference: What the share is of: 'all', the norm of the task's gradient over all features that the loss is
            given, or 'feature', that on the same feature.

    Raises:
        UsageError: (a ValueError) Here for bad numbers; before training if the model has no such loss, or one with a
            loss_weight of 0 or behind a connector, or the student no loss of its own; at the first measurement if
            ``share`` names a feature that is not there, or the student's own losses do not depend on one.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        share: float | Mapping[str, float],
        loss: str | None = None,
        interval: int = 20,
        momentum: float = 0.5,
        max_weight: float = 1e4,
        reference: str = 'all',
    ) -> None:
        if reference not in REFERENCES:
            raise UsageError(
                f'GradientShareHook: reference must be one of {", ".join(REFERENCES)}, but is {reference!r}.'
            )
        shares = dict(share) if isinstance(share, Mapping) else {'share': share}
        for name, value in (*shares.items(), ('max_weight', max_weight)):
            if not (_is_number(value) and math.isfinite(value) and value > 0):
                what = name if name in ('share', 'max_weight') else f'share of {name}'
                raise UsageError(
                    f'GradientShareHook: {what} must be a finite number > 0, but is {value!r}.'
                )
        if not shares:
            raise UsageError('GradientShareHook: share is empty; give a number, such as 0.3.')
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise UsageError(
                f'GradientShareHook: interval must be a whole number of at least 1, but is {interval!r}.'
            )
        if not (_is_number(momentum) and 0 <= momentum < 1):
            raise UsageError(f'GradientShareHook: momentum must be in [0, 1), but is {momentum!r}.')
        self.share: float | dict[str, float] = (
            dict(share) if isinstance(share, Mapping) else float(share)
        )
        self.loss = loss
        self.interval = interval
        self.momentum = momentum
        self.max_weight = max_weight
        self.reference = reference
        self.averages: dict[str, tuple[float, float]] = {}
        """Feature -> geometric means of the squared norms of the task's gradient and the distillation's."""
        self._used: dict[str, None] = {}  # features that the loss depends on, on whatever rank
        # measurements between two intervals, for features that others were measured without
        self._waited = 0
        self._checked = False

    def before_run(self, runner) -> None:
        """Finds the loss, before a checkpoint is loaded."""
        self._distiller = distiller_of(runner, 'GradientShareHook')
        losses = losses_on_features(self._distiller)
        if self.loss is None:
            if len(losses) != 1:
                raise UsageError(
                    f'GradientShareHook: loss has to be named, one of {", ".join(losses) or "none"}.'
                )
            self.loss = losses[0]
        elif self.loss not in losses:
            raise UsageError(
                f'GradientShareHook: loss is {self.loss!r}, but distill_losses has {", ".join(losses) or "none"}'
                f'{did_you_mean(self.loss, losses) or "."}'
            )
        check_no_connector(self._distiller, self.loss, 'GradientShareHook')
        if getattr(self._distiller.distill_losses[self.loss], 'loss_weight', None) == 0:
            raise UsageError(
                f'GradientShareHook: loss_weight of {self.loss} is 0, so it has no gradient that could be weighed; set '
                'it to 1.0, say, or take the hook out.'
            )
        others = [
            hook
            for hook in getattr(runner, 'hooks', ())
            if isinstance(hook, GradientShareHook) and hook is not self
        ]
        if any(hook.loss in (self.loss, None) for hook in others):
            raise UsageError(
                f'GradientShareHook: two hooks weigh {self.loss}; keep one, or name a loss in each.'
            )
        if not getattr(unwrap(runner.model), 'calculate_student_loss', True):
            raise UsageError(
                'GradientShareHook: model.calculate_student_loss is False, so there is no gradient of the task to '
                'compare with; set it to True, or take the hook out.'
            )

    def before_train(self, runner) -> None:
        """Stands between the features and the loss, and listens to the losses of each iteration."""
        model = unwrap(runner.model)
        self._gate = self._distiller.gate(self.loss)
        self._set_factors()

        def measure(losses: Mapping[str, Any]) -> None:
            if getattr(model, 'distillation_stopped', False):
                return
            if runner.iter % self.interval == 0 or self._missing():
                self._measure(losses, runner)

        self._stop = listen_to_losses(model, measure)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Lets go of the features."""
        self._gate.clear()

    def after_train(self, runner) -> None:
        """Listens no more."""
        self._stop()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Adds the averages."""
        checkpoint.setdefault(_KEY, {})[self.loss] = dict(
            reference=self.reference,
            averages={name: list(values) for name, values in self.averages.items()},
            waited=self._waited,
        )

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Restores the averages at resume (not from ``load_from``)."""
        state = (checkpoint.get(_KEY) or {}).get(self.loss)
        if not runner._resume:
            return
        if state is not None and 'averages' not in state:  # as earlier versions wrote them
            state = dict(reference=self.reference, averages=state)
        problem = None
        if state is None:
            problem = f'the checkpoint has no averages of {self.loss}'
        elif state['reference'] != self.reference:
            problem = (
                f'the averages of {self.loss} in the checkpoint have reference={state["reference"]!r}, and this run '
                f'has {self.reference!r}'
            )
        if problem:
            runner.logger.warning(f'GradientShareHook: {problem}; they are measured anew.')
            return
        self._waited = int(state.get('waited', 0))
        # of other features there may be some, if share was a number before; earlier versions kept a task of 0
        self.averages = {
            name: (float(task), float(own))
            for name, (task, own) in state['averages'].items()
            if task > 0 and (not isinstance(self.share, dict) or name in self.share)
        }

    def _governed(self, given: Iterable[str]) -> list[str]:
        """The features whose share is set; those given where neither it nor the loss names any."""
        if isinstance(self.share, dict):
            return list(self.share)
        names = getattr(self._distiller.distill_losses[self.loss], 'feature_names', dict)()
        stages = [name for (side, _), name in names.items() if side == 'student']
        return stages or list(given)

    def _missing(self) -> bool:
        """Whether a feature has no weight yet; the same on all ranks, also where the forward pass of one failed."""
        if not self.averages:
            return True
        governed = self._governed(self._used)
        return self._waited < _PATIENCE * self.interval and any(
            name not in self.averages for name in governed
        )

    def _measure(self, losses: Mapping[str, Any], runner) -> None:
        seen = self._gate.seen
        if not seen and total(losses, f'distill.{self.loss}') is not None:
            raise UsageError(
                f'GradientShareHook: {self.loss} is given no feature of the student that has a gradient, so there is '
                'nothing to weigh; record features of a part that is trained, or take the hook out.'
            )
        # A forward pass that fails inside the loss itself was given its features, and has no loss.
        whole = bool(seen) and total(losses, f'distill.{self.loss}') is not None
        if not on_every_rank(whole, losses):
            return  # a forward pass has failed, on whatever rank
        governed = self._governed(seen)
        check_names(dict.fromkeys(governed), list(seen), 'GradientShareHook', 'share')
        if runner.iter % self.interval:  # between two measurements only what has no weight
            governed = [name for name in governed if name not in self.averages]
            self._waited += bool(self.averages)
        if self.reference == 'feature':
            seen = {name: seen[name] for name in governed}
        if not self.averages and not self._checked:
            self._checked = True
            self._check_reached(losses, {name: f.recorded for name, f in seen.items()})
        gradients = feature_gradients(losses, self.loss, seen, loss_scale(runner))
        measured = averaged_over_ranks(gradients)
        self._used |= {name: None for name, gradient in measured.items() if gradient.reached > 0}
        found = {name: measured[name] for name in governed}
        cosines = {name: gradient.cosine() for name, gradient in found.items()}
        if self.reference == 'all':
            task = torch.stack([gradient.task for gradient in measured.values()]).sum()
            found = {name: gradient._replace(task=task) for name, gradient in found.items()}
        for name, gradient in found.items():
            self._average(name, gradient)
        self._set_factors()
        short = monitor_name(f'distill.{self.loss}')
        for name, gradient in found.items():
            for what, value in (
                ('unweighted_share', gradient.share()),
                ('cosine', cosines[name]),
                ('weight', self._gate.factors.get(name)),
            ):
                if value is not None:
                    runner.message_hub.update_scalar(f'train/gradient_{what}/{short}.{name}', value)

    def _average(self, name: str, gradient: FeatureGradient) -> None:
        task, own = gradient.task.item(), gradient.distill.item()
        if not (math.isfinite(task) and math.isfinite(own) and own > 0):
            return
        before = self.averages.get(name)
        if before is None and task == 0:
            return  # a share of it would be a weight of 0 until the next measurement
        if before is not None:
            task, own = (
                _geometric(old, new, self.momentum)
                for old, new in zip(before, (task, own), strict=True)
            )
        self.averages[name] = (task, own)

    def _set_factors(self) -> None:
        for name, (task, own) in self.averages.items():
            share = self.share[name] if isinstance(self.share, dict) else self.share
            self._gate.factors[name] = min(share * math.sqrt(task / own), self.max_weight)

    def _check_reached(self, losses: Mapping[str, Any], features: Mapping[str, Tensor]) -> None:
        task = total(losses, STUDENT)
        found = [None] * len(features)
        if task is not None and task.requires_grad:
            found = torch.autograd.grad(
                task, list(features.values()), retain_graph=True, allow_unused=True
            )
        for name, gradient in zip(features, found, strict=True):
            if gradient is None and self.reference == 'all' and any(g is not None for g in found):
                continue
            if gradient is None:
                raise UsageError(
                    f"GradientShareHook: the student's own losses do not depend on the feature {name} of {self.loss}, "
                    'so there is no share of their gradient; record a feature that the student uses, or leave it out '
                    'of share.'
                )


def _geometric(old: float, new: float, momentum: float) -> float:
    """``old^momentum * new^(1 - momentum)``; of a zero and another number the other one."""
    if old > 0 and new > 0:
        return math.exp(momentum * math.log(old) + (1 - momentum) * math.log(new))
    return max(old, new)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
