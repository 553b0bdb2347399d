"""An exception in the forward pass: whether numbers that are not finite were there, and where."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from dpk_mm.errors import UsageError

#: What a NaN does not cause, or what has a sentence of its own.
OTHER_CAUSES = (
    UsageError,
    ImportError,
    MemoryError,
    NotImplementedError,
    torch.OutOfMemoryError,
)


#: Buffers in which an infinity is damage: those of batch normalisation.
STATISTICS = ('running_mean', 'running_var')


def first_not_finite(
    tensors: Iterable[tuple[str, Tensor]], buffers: Container[str] = ()
) -> str | None:
    """The first name whose tensor holds a NaN or an infinity.

    Args:
        tensors: By name.
        buffers: Which of the names are buffers. One may be infinite on purpose, as a causal mask or the smallest value
            that an observer has seen yet: NaN alone counts there, except in running statistics.
    """
    for name, value in tensors:
        if value.is_floating_point():
            on_purpose = name in buffers and not name.endswith(STATISTICS)
            bad = value.isnan() if on_purpose else ~value.isfinite()
            if bad.any():
                return name
    return None


def first_damaged(module: nn.Module) -> str | None:
    """The first parameter, or else buffer, that is not finite, see :func:`first_not_finite`."""
    buffers = dict(module.named_buffers())
    return first_not_finite([*module.named_parameters(), *buffers.items()], buffers)


def not_finite_values(
    model: nn.Module, error: Exception, seen: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """What was computed before an exception, if something in it was not finite.

    Looked at are the weights and buffers of the model and its teacher, the input and the recorded features, and the
    variables of the functions that the exception went through. Of the latter, and of most buffers, only NaN counts: an
    attention mask or a cost of infinity is there on purpose.

    Args:
        model: The algorithm.
        error: What the forward pass ended with.
        seen: Input and recorded features by a name for the user.

    Returns:
        ``seen`` with the variables that hold a NaN; None if all is finite, or the exception has another cause.
    """
    if isinstance(error, OTHER_CAUSES):
        return None
    try:
        variables = _nan_variables(error)
        found = {**seen, **variables}
        if variables or first_not_finite(found.items()):
            return found
        teacher = getattr(model, 'teacher', None)
        for module in (model, teacher):
            if isinstance(module, nn.Module) and first_damaged(module):
                return found
    except RuntimeError:  # a CUDA device that stopped at an assertion answers nothing any more
        return None
    return None


def _nan_variables(error: Exception) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if not frame.f_globals.get('__name__', '').startswith(
            ('torch.', 'dpk_mm.models.algorithms.')
        ):
            for name, value in frame.f_locals.items():
                for tensor in _tensors_in(value):
                    if tensor.is_floating_point() and torch.isnan(tensor).any():
                        found[f'{name} of {frame.f_code.co_name}()'] = tensor.detach()
                        break
        traceback = traceback.tb_next
    return found


def _tensors_in(value: Any, depth: int = 2) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif depth:
        items: Iterable[Any] = ()
        if isinstance(value, (list, tuple)):
            items = value
        elif isinstance(value, Mapping):
            items = value.values()
        elif isinstance(value, BaseDataElement):
            items = value.all_values()
        for item in items:
            yield from _tensors_in(item, depth - 1)
