"""Evaluates the teacher before training, so that a wrong one costs minutes and not days."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmrazor.registry import HOOKS
from torch import nn

from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.errors import UsageError

from ..runner.teacher_metrics import evaluate_teacher


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Evaluates the teacher once, before the first step, and stops the run if it is far below what is expected.

    A checkpoint whose names and shapes fit can still be the wrong one: of another training, with another order of the
    classes, or with another normalisation than the config says. The teacher is run on the validation set of the
    config, with its own ``data_preprocessor``, in float32 and eval mode, on all ranks.

    Of a validation of several data sets each is looked at: the sets of a ``ConcatDataset`` with mmdet's
    ``MultiDatasetsEvaluator``, and the loaders of a loop that has several. Metrics of the same name are then called
    ``0/<name>``, ``1/<name>`` and so on.

    The run itself is not touched: random numbers, the student and its mode, the evaluator and the logged scalars are as
    without the hook. It works at every start, a resumed one included; take it out of ``custom_hooks`` to save the time.

    Args:
        expected: What the teacher reaches, in the units of the metric (mmdet: mAP in [0, 1];
            mmpretrain: accuracy in percent), above 0. A dict checks several metrics.
        metric: Name of the metric for a single number, such as ``'coco/bbox_mAP'`` or
            ``'accuracy/top1'``. Greater must be better.
        tolerance: How far below is accepted, as a share of the expected value, in [0, 1). 0.05 accepts 38 for
            40.
        max_batches: A quick check: at most so many batches on each rank, of samples that are spread
            evenly over the validation set, some of each where there are several. A part of the set scores higher or
            lower by chance; give a larger tolerance.

    Raises:
        UsageError: (a ValueError) Here for bad arguments. Before training if the model has no teacher, the config has
            no validation, the metric is unknown, or the teacher is below ``(1 - tolerance) * expected``.
    """

    priority = 'LOW'

    def __init__(
        self,
        expected: float | Mapping[str, float],
        metric: str | None = None,
        tolerance: float = 0.05,
        max_batches: int | None = None,
    ) -> None:
        if isinstance(expected, Mapping) == (metric is not None):
            raise UsageError(
                f'TeacherCheckHook: expected is {expected!r} and metric is {metric!r}; give one number and the '
                "metric's name, or a dict of numbers by metric and no metric."
            )
        values = expected if isinstance(expected, Mapping) else {metric: expected}
        for value in values.values():
            if not _is_number(value) or not 0 < value < float('inf'):
                raise UsageError(
                    f'TeacherCheckHook: expected must be a number above 0, but is {expected!r}.'
                )
        if not values:
            raise UsageError('TeacherCheckHook: expected names no metric; give at least one.')
        if not _is_number(tolerance) or not 0 <= tolerance < 1:
            raise UsageError(
                f'TeacherCheckHook: tolerance must be in [0, 1), a share of expected, but is {tolerance!r}.'
            )
        if max_batches is not None and (not isinstance(max_batches, int) or max_batches < 1):
            raise UsageError(
                'TeacherCheckHook: max_batches must be a whole number of at least 1, or None, but is '
                f'{max_batches!r}.'
            )
        self.expected = {str(name): float(value) for name, value in values.items()}
        self.tolerance = tolerance
        self.max_batches = max_batches
        #: Of the whole validation set; empty before training and for a quick check.
        self.metrics: dict[str, float] = {}

    def before_train(self, runner: Runner) -> None:
        """Evaluates, prints and judges."""
        model = unwrap(runner.model)
        teacher = getattr(model, 'teacher', None)
        if not isinstance(teacher, nn.Module):
            raise UsageError(
                f'TeacherCheckHook: the model, a {type(model).__name__}, has no teacher; take the hook out of '
                'custom_hooks, or train a DPKDistill.'
            )
        if runner.val_loop is None:
            raise UsageError(
                'TeacherCheckHook: the config has no validation; set val_dataloader, val_evaluator and val_cfg, or '
                'take the hook out of custom_hooks.'
            )
        metrics = evaluate_teacher(runner, self.max_batches)
        if self.max_batches is None:
            self.metrics = metrics
        self._judge(runner, metrics, getattr(model, 'teacher_ckpt', None))

    def _judge(self, runner: Runner, metrics: Mapping[str, Any], checkpoint: str | None) -> None:
        source = (
            f'teacher_ckpt {checkpoint!r}'
            if checkpoint
            else 'the teacher (teacher_ckpt is not set)'
        )
        low = []
        for name, expected in self.expected.items():
            if name not in metrics:
                known = ', '.join(metrics) or 'none at all (a detector that finds nothing has none)'
                raise UsageError(
                    f'TeacherCheckHook: the evaluation of {source} has no metric {name!r}, only {known}; name one of '
                    'val_evaluator in metric or expected.'
                )
            found, least = float(metrics[name]), (1 - self.tolerance) * expected
            said = f'{name} is {found:.4g}, expected {expected:.4g} (accepted from {least:.4g})'
            runner.logger.info(f'Teacher: {said}.')
            if not found >= least:
                low.append(said)
        if low:
            raise UsageError(
                f'TeacherCheckHook: {source} is far below what is expected: {"; ".join(low)}; check that it is the '
                "right file, the teacher's data_preprocessor and the order of the classes, or change expected or "
                'tolerance.'
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
