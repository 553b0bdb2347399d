"""Says once, in the log, that a student learns nothing from its teacher, and what to change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from mmrazor.registry import HOOKS
from torch import Tensor, nn

from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.errors import UsageError

from ...models.loss_parts.module_warmup import ModuleWarmup
from ...models.loss_parts.warmup import Warmup
from ...models.losses import DPKLoss
from ..metrics import numbers
from ..runner.teacher_metrics import try_to_evaluate_teacher
from .alarm_rules import ShareRule, SimilarityRule
from .loss_gradient_hook import STUDENT, listen_to_losses, trained_parameters
from .loss_sums import sum_losses
from .measuring import loss_scale, on_every_rank
from .passes import iterations_of_a_pass
from .precedence import gives_way
from .teacher_check_hook import TeacherCheckHook

#: What is logged: norm of the gradient of all distillation losses over that of the student's own.
SHARE = 'gradient_share/distill'
_KEY = 'distill_alarm'
_DISTILL = 'distill'


@HOOKS.register_module()
class DistillAlarmHook(Hook):
    """Warns of a distillation that cannot work; silent as long as it can.

    Each of these is said once in a run, resumed or not:

    - The gradient share, which is the norm of the gradient of all distillation losses on the student's parameters over
      that of its own losses, is below ``low``, or above ``high``, in every measurement of a whole pass over the
      training data (and in at least 3). It is logged as ``train/gradient_share/distill``. Passes of a loss's warm-up
      and iterations of a ``module_warmup`` do not count, nor does anything after a ``StopDistillHook`` stopped the
      distillation.
    - The teacher's metric is below the student's. The teacher is evaluated once, with the first validation, by
      :func:`~dpk_mm.engine.runner.teacher_metrics.try_to_evaluate_teacher`; where it cannot be, as with other classes,
      one line says so. A ``TeacherCheckHook`` of the run that evaluated the whole set is asked instead.
    - From half of the training on, the third pass at the earliest: the mean similarity (CKA or cosine) of student and
      teacher over a pass is in no stage 0.01 above that of the first pass, and below 0.9. Only for losses whose mask
      ratio comes from a similarity.

    The training itself is not touched. A measurement costs two more backward passes; the norms are averaged over
    processes, so that all processes judge alike. Where gradients cannot be taken, as under reentrant gradient
    checkpointing, one line says so and the rest goes on.

    Args:
        interval: Iterations between two measurements of the gradient, at least 1.
        low: The share below which the teacher is not heard, above 0.
        high: The share above which the labels are not heard, above ``low``.
        metric: The metric that is compared; by default the first one of the validation.
        rule: ``'greater'`` or ``'less'`` is better; by default inferred from the name of the metric, as mmengine's
            ``CheckpointHook`` does. Where that fails, nothing is compared.
        evaluate_teacher: Whether to evaluate the teacher.

    Attributes:
        alarms: What was said, by its kind: ``'low'``, ``'high'``, ``'teacher'``, ``'similarity'``.
        teacher_metrics: Of the teacher, by name; empty where it was not evaluated.

    Raises:
        UsageError: (a ValueError) Here for bad arguments; before training if the model has no student.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        interval: int = 50,
        low: float = 0.01,
        high: float = 100.0,
        metric: str | None = None,
        rule: str | None = None,
        evaluate_teacher: bool = True,
    ) -> None:
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise UsageError(
                f'DistillAlarmHook: interval must be a whole number of at least 1, but is {interval!r}.'
            )
        if not all(isinstance(x, (int, float)) for x in (low, high)) or not 0 < low < high:
            raise UsageError(
                f'DistillAlarmHook: 0 < low < high was expected, but low is {low!r} and high is {high!r}.'
            )
        if rule not in (None, 'greater', 'less'):
            raise UsageError(
                f"DistillAlarmHook: rule must be 'greater' or 'less', but is {rule!r}."
            )
        self.interval = interval
        self.low, self.high = low, high
        self.metric, self.rule = metric, rule
        self.evaluate_teacher = evaluate_teacher
        self.alarms: dict[str, str] = {}
        self.teacher_metrics: dict[str, float] = {}
        self._asked_teacher = False
        self._restored: Mapping[str, Any] = {}
        self._measured: tuple[float, float] | None = None
        self._measurable = True
        self._stop: Callable[[], None] | None = None

    # The run.

    def before_train(self, runner: Runner) -> None:
        """Looks at the model, and listens to its losses."""
        model = unwrap(runner.model)
        student = getattr(model, 'student', None)
        if isinstance(student, nn.Module) and not any(
            p.requires_grad for p in student.parameters()
        ):
            return  # what is trained are modules of the losses
        parameters = trained_parameters(model, type(self).__name__)
        if gives_way(self, DistillAlarmHook, 'distill_alarm', runner):
            return
        modules = list(model.modules())
        self._warmups = [w for m in modules if isinstance(w := getattr(m, 'warmup', None), Warmup)]
        self._module_warmups = [module for module in modules if isinstance(module, ModuleWarmup)]
        self._losses = [module for module in modules if isinstance(module, DPKLoss)]
        try:
            length: int | None = iterations_of_a_pass(runner.train_loop.dataloader)
        except UsageError:  # data without a length
            length = None
        self._share = ShareRule(self.low, self.high, self.interval, length)
        self._similarity = SimilarityRule(length, runner.max_iters) if length else None
        if self._restored:
            self._share.load_state_dict(self._restored['share'])
            if self._similarity is not None and self._restored['similarity']:
                self._similarity.load_state_dict(self._restored['similarity'])

        def measure(losses: Mapping[str, Any]) -> None:
            if self._due(runner):
                self._measured = self._measure(runner, losses, parameters)

        self._stop = listen_to_losses(model, measure)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Judges what was measured."""
        if self._stop is None or getattr(unwrap(runner.model), 'distillation_stopped', False):
            return
        if self._due(runner):
            self._judge_share(runner)
        if self._similarity is not None:
            similarities: dict[str, float] = {}
            for loss in self._losses:
                similarities.update(getattr(loss.mask_ratio, 'similarities', {}))
            found = self._similarity.update(runner.iter, similarities)
            if found:
                self._warn(runner, 'similarity', _not_growing(found))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Compares the teacher with the student."""
        if self._stop is None:  # not in training
            return
        if not self._asked_teacher and self.evaluate_teacher:
            self._asked_teacher = True
            self.teacher_metrics = _teacher_metrics(runner)
        found = numbers(metrics)
        name = self.metric or next(iter(found), None)
        if not self.teacher_metrics or name not in found:
            return
        student, teacher = found[name], self.teacher_metrics.get(name)
        is_better = self._comparison(name)
        if teacher is not None and is_better is not None and is_better(student, teacher):
            self._warn(runner, 'teacher', _worse_teacher(name, student, teacher))

    def after_train(self, runner: Runner) -> None:
        """Listens no more."""
        if self._stop is not None:
            self._stop()
            self._stop = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Adds what was said and what is being counted."""
        if self._stop is None:
            return
        checkpoint[_KEY] = dict(
            alarms=dict(self.alarms),
            teacher_metrics=dict(self.teacher_metrics),
            asked_teacher=self._asked_teacher,
            share=self._share.state_dict(),
            similarity=self._similarity and self._similarity.state_dict(),
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restores it at resume (not from ``load_from``)."""
        state = checkpoint.get(_KEY)
        if not runner._resume or state is None:
            return
        self.alarms = dict(state['alarms'])
        self.teacher_metrics = dict(state['teacher_metrics'])
        self._asked_teacher = state['asked_teacher']
        self._restored = state  # the rules are made when the length of the training is known

    # What is measured and judged.

    def _due(self, runner: Runner) -> bool:
        stopped = getattr(unwrap(runner.model), 'distillation_stopped', False)
        return runner.iter % self.interval == 0 and not stopped

    def _measure(
        self, runner: Runner, losses: Mapping[str, Any], parameters: list[nn.Parameter]
    ) -> tuple[float, float] | None:
        """Norms of the gradients of the student's own losses and of the distillation, of this process."""
        sums = sum_losses(losses, lambda name: name.split('.')[0])
        if not on_every_rank(self._measurable and {STUDENT, _DISTILL} <= set(sums), losses):
            return None
        factor = loss_scale(runner)  # the same in both norms
        try:
            own, distill = (
                gradient_norm(factor * sums[key], parameters) for key in (STUDENT, _DISTILL)
            )
        except RuntimeError as error:
            self._measurable = False
            runner.logger.info(
                f'DistillAlarmHook: the gradient share cannot be measured ({str(error).splitlines()[0]}).'
            )
            return None
        return own, distill

    def _judge_share(self, runner: Runner) -> None:
        own, distill, known = _mean_over_processes(self._measured, runner.model)
        self._measured = None
        if not known or not math.isfinite(own + distill) or own == distill == 0:
            return
        share = distill / own if own else math.inf
        if math.isfinite(share):
            runner.message_hub.update_scalar(f'train/{SHARE}', share)
        if any(w.passes and w.done is not None and w.factor() < 1 for w in self._warmups) or any(
            map(_warms_up, self._module_warmups)
        ):
            self._share.forget()
            return
        found = self._share.update(runner.iter, share)
        if found:
            limit = self.low if found[0] == 'low' else self.high
            names = ' and '.join(unwrap(runner.model).distiller.distill_losses)
            self._warn(runner, found[0], _wrong_share(*found, limit, names))

    def _comparison(self, name: str) -> Callable[[float, float], bool] | None:
        try:
            return CheckpointHook(save_best=name, rule=self.rule).is_better_than[name]
        except ValueError:  # what is better does not follow from the name
            return None

    def _warn(self, runner: Runner, kind: str, text: str) -> None:
        if kind not in self.alarms:
            self.alarms[kind] = text
            runner.logger.warning(f'DistillAlarmHook: {text}')


def _warms_up(warmup: ModuleWarmup) -> bool:
    """Whether the feature of any stage is still detached, so that the share means nothing."""
    if warmup.iteration is None or warmup.iteration >= warmup.iterations:
        return False
    return warmup.limit is None or not bool(warmup.ended.all())


def gradient_norm(loss: Tensor, parameters: list[nn.Parameter]) -> float:
    """The norm (L2) of a loss's gradient on parameters; its graph stays."""
    if not loss.requires_grad:
        return 0.0
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    norms = [g.float().norm() for g in gradients if g is not None]
    return torch.stack(norms).norm().item() if norms else 0.0


def _mean_over_processes(
    measured: tuple[float, float] | None, model: nn.Module
) -> tuple[float, float, bool]:
    """Both norms as the mean over all processes, and whether all of them have measured."""
    values = torch.tensor(
        [*(measured or (0.0, 0.0)), float(measured is not None)],
        device=next(model.parameters()).device,
    )
    all_reduce(values, 'mean')
    own, distill, known = values.tolist()
    return own, distill, known == 1


def _teacher_metrics(runner: Runner) -> dict[str, float]:
    checked = [h.metrics for h in runner.hooks if isinstance(h, TeacherCheckHook) and h.metrics]
    if checked:
        metrics, why = checked[0], None
    else:
        metrics, why = try_to_evaluate_teacher(runner)
        shown = ', '.join(f'{name} {value:.4f}' for name, value in metrics.items())
        if shown:
            runner.logger.info(f'The teacher: {shown}.')
        else:
            why = (
                why
                or 'the validation gives no metrics for it, as for a detector that finds nothing'
            )
            runner.logger.info(f'The teacher could not be evaluated on the validation data: {why}.')
    return metrics


# What is said.


def _wrong_share(
    side: str, count: int, iterations: int, mean: float | None, limit: float, names: str
) -> str:
    measured = f'in {count} measurements over {iterations} iterations'
    aim = 'until train/gradient_share/distill is between 1 and 10, see docs/weights.md.'
    if side == 'low':
        found = 'zero' if mean is None else f'{mean:.2g} on average'
        factor = '' if mean is None else f' about {1 / mean:.1g}-fold'
        return (
            f'the student learns nothing from the teacher: {measured} the gradient of the distillation on the '
            f'student was less than {limit:g} of that of its own losses ({found}). Raise loss_weight of '
            f'{names}{factor}, {aim}'
        )
    found = 'infinite, since these have none' if mean is None else f'{mean:.2g} on average'
    factor = '' if mean is None else f' to about {1 / mean:.1g} of what it is'
    return (
        f'the distillation drowns the labels: {measured} the gradient of the distillation on the student was more than '
        f'{limit:g} times that of its own losses ({found}). Lower loss_weight of {names}{factor}, {aim}'
    )


def _worse_teacher(name: str, student: float, teacher: float) -> str:
    return (
        f'the teacher is worse than the student: {name} is {teacher:.4g} for the teacher and {student:.4g} for the '
        'student. Early in a training, check that model.teacher_ckpt is the right file and that the data_preprocessor '
        'and the order of the classes are those that the teacher was trained with. Late in it, take a better teacher, '
        "or end the distillation earlier with custom_hooks = [dict(type='mmrazor.StopDistillHook', stop_epoch=N)]."
    )


def _not_growing(found: Mapping[str, tuple[float, float]]) -> str:
    values = ', '.join(
        f'{stage} {first:.3f} and {now:.3f}' for stage, (first, now) in found.items()
    )
    return (
        'the similarity of student and teacher does not grow: its means over the first pass over the data and over '
        f'this one are {values}. Raise the loss weight if train/{SHARE} is below 1; else distil other '
        'layers (records of the distiller), or check the resolution and the normalisation of the teacher.'
    )
