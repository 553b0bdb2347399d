"""The teacher's metrics on the validation set of a run, without a trace in the run itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_world_size
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from dpk_mm.checkpoint.student_config import unwrap

from ..metrics import numbers
from .validation_part import ValidationPart, evaluator_copy, validation_sets


def evaluate_teacher(runner: Runner, max_batches: int | None = None) -> dict[str, float]:
    """Evaluates the teacher with its own ``data_preprocessor``, in float32 and eval mode, on all ranks.

    Random numbers, the modes of modules, the evaluator and the logged scalars are afterwards as they were.

    Args:
        runner: Of a distillation with a validation.
        max_batches: At most so many batches on each rank, of samples that are spread evenly; all if None.

    Returns:
        The metrics by name, those that are single numbers. Where several data sets have metrics of the same name,
        these are ``0/<name>``, ``1/<name>`` and so on.
    """
    return _evaluate(
        runner,
        max_batches,
        lambda part, evaluator, teacher, loader: part.evaluate(evaluator, teacher, loader),
    )


def try_to_evaluate_teacher(runner: Runner) -> tuple[dict[str, float], str | None]:
    """Evaluates the teacher where that can be done, and never raises on one rank alone.

    A teacher of other classes or of another task can teach features, but its predictions cannot be evaluated.

    Returns:
        The metrics as :func:`evaluate_teacher` gives them, and why there are none.
    """
    model = unwrap(runner.model)
    counts = [class_count(model.student), class_count(model.teacher)]
    if None not in counts and counts[0] != counts[1]:
        return {}, f'it has {counts[1]} classes and the student {counts[0]}'
    errors: list[str] = []

    def run(part: ValidationPart, evaluator: Evaluator, teacher: TeacherSteps, loader: Any) -> dict:
        with evaluator_copy(evaluator) as own:
            for metric in own.metrics:
                metric.process = _kept(metric.process, errors, None)
                metric.compute_metrics = _kept(metric.compute_metrics, errors, {})
            return part.run(own, _Careful(teacher, errors), loader)

    metrics = _evaluate(runner, None, run)
    everywhere = [error for found in all_gather_object(errors) for error in found]
    return ({}, everywhere[0]) if everywhere else (metrics, None)


def class_count(model: nn.Module) -> int | None:
    """The number of classes of a model's heads; None where they do not tell."""
    counts = [
        module.num_classes
        for name, module in model.named_modules()
        if 'head' in name and isinstance(getattr(module, 'num_classes', None), int)
    ]
    return max(counts, default=None)


class TeacherSteps:
    """The teacher of a distillation as a validation calls it, on images of the ``teacher_input_size``.

    Args:
        model: The distillation.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    def val_step(self, batch: Any) -> Any:
        """The data samples of a batch with the teacher's predictions."""
        # mmrazor's own algorithms have no teacher_input_size
        step = getattr(self._model, 'teacher_val_step', None) or self._model.teacher.val_step
        return step(batch)


class _Careful:
    """A model whose predictions are empty from its first exception on."""

    def __init__(self, model: TeacherSteps, errors: list[str]) -> None:
        self.val_step: Callable[..., Sequence[Any]] = _kept(model.val_step, errors, ())


def _kept(function: Callable[..., Any], errors: list[str], instead: Any) -> Callable[..., Any]:
    """The function, whose first exception is put into a list; ``instead`` is returned from then on."""

    def call(*args: Any, **kwargs: Any) -> Any:
        if not errors:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                errors.append(f'{type(error).__name__}: {error}')
        return instead

    return call


def _evaluate(
    runner: Runner, max_batches: int | None, run: Callable[..., dict]
) -> dict[str, float]:
    model = unwrap(runner.model)
    teacher = model.teacher
    with _random_state_kept(), _in_eval_mode(teacher), torch.no_grad():
        teacher.to(next(model.parameters()).device)  # its data_preprocessor, too
        found = []
        for loader, evaluator in validation_sets(runner):
            count = max_batches and max_batches * _batch_size(loader) * get_world_size()
            part = ValidationPart(loader.dataset, count)
            share = (
                f'all {part.total}' if part.whole else f'{len(part.indices)} of the {part.total}'
            )
            runner.logger.info(
                f'Evaluating the teacher on {share} samples of val_dataloader'
                + ('.' if part.whole else f' (max_batches={max_batches}).')
            )
            own_loader = _own_loader(runner, loader, part)
            found.append(run(part, evaluator, TeacherSteps(model), own_loader))
    names = [name for metrics in found for name in metrics]
    metrics: dict[str, float] = {}
    for position, values in enumerate(found):
        for name, value in numbers(values).items():
            metrics[name if names.count(name) == 1 else f'{position}/{name}'] = value
    return metrics


def _own_loader(runner: Runner, loader: DataLoader, part: ValidationPart) -> DataLoader:
    """A loader of its own: the runner's would keep its workers and their random numbers."""
    return runner.build_dataloader(
        dict(
            dataset=part.dataset,
            batch_size=_batch_size(loader),
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        seed=runner.seed,
    )


def _batch_size(loader: DataLoader) -> int:
    """Of a loader with a batch sampler of its own, that sampler's."""
    return loader.batch_size or getattr(loader.batch_sampler, 'batch_size', None) or 1


@contextmanager
def _in_eval_mode(module: nn.Module) -> Iterator[None]:
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for m, training in modes:
            m.training = training


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Python's, numpy's and torch's generators go on as if nothing had been drawn."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
