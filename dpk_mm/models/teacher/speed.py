"""Ways to run a teacher faster: in half precision, and compiled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from dpk_mm.errors import UsageError, did_you_mean

PRECISIONS = ('bfloat16', 'float16')
COMPILED = ('backbone', 'neck')


def check_precision(precision: str | None) -> None:
    """Checks ``teacher_precision``.

    Args:
        precision: A name of :data:`PRECISIONS`, or None.

    Raises:
        UsageError: (a ValueError) If it is another one.
    """
    if precision is not None and precision not in PRECISIONS:
        raise UsageError(
            f'model.teacher_precision is {precision!r}, but must be None or one of {", ".join(PRECISIONS)}'
            f'{did_you_mean(str(precision), PRECISIONS) or "."}'
        )


def in_precision(precision: str | None, device: torch.device) -> AbstractContextManager:
    """Runs what is inside in a precision; in that of the student if it is None.

    Args:
        precision: A name of :data:`PRECISIONS`, or None.
        device: Of the batch.
    """
    if precision is None:
        return nullcontext()
    return torch.autocast(device.type, getattr(torch, precision))


def compile_teacher(
    teacher: nn.Module, options: bool | Mapping[str, Any], recorded: Iterable[str]
) -> None:
    """Compiles the forward functions of the teacher's backbone and neck, at their first batch.

    What is recorded of a compiled module as a whole is seen as before; inside of one, the hooks of recorders would be
    compiled, too.

    Args:
        teacher: A detector or classifier.
        options: True, or arguments of ``torch.compile``, such as ``dict(mode='reduce-overhead')``.
        recorded: Names of the teacher's modules that are recorded.

    Raises:
        UsageError: (a ValueError) If ``options`` is something else, a module inside of backbone or neck is recorded, or
            the teacher has no backbone.
    """
    if options is not True and not isinstance(options, Mapping):
        raise UsageError(
            f'model.teacher_compile must be True, or a dict of arguments of torch.compile, but is {options!r}.'
        )
    if not isinstance(getattr(teacher, 'backbone', None), nn.Module):
        raise UsageError(
            f'model.teacher_compile compiles backbone and neck, but {type(teacher).__name__} has no backbone; leave it '
            'out.'
        )
    for source in recorded:
        if source.partition('.')[0] in COMPILED and '.' in source:
            raise UsageError(
                f'model.teacher_compile compiles {source.partition(".")[0]!r}, but a recorder looks at {source!r} '
                'inside of it; leave teacher_compile out, or record the whole module.'
            )
    for name in COMPILED:
        module = getattr(teacher, name, None)
        if isinstance(module, nn.Module):
            compile_forward(module, {} if options is True else options)


def compile_forward(module: nn.Module, options: Mapping[str, Any]) -> None:
    """Compiles what a module computes and not its hooks, in place; its parameters and their names stay.

    Args:
        module: Its ``forward`` is replaced.
        options: Arguments of ``torch.compile``.
    """
    module.forward = torch.compile(module.forward, **options)  # type: ignore[method-assign]
