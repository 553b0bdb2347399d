"""An exception in the forward pass: whether numbers that are not finite were there, and where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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


def first_not_finite(tensors: Iterable[tuple[str, Tensor]]) -> str | None:
    """The first name whose tensor holds a NaN or an infinity."""
    for name, value in tensors:
        if value.is_floating_point() and not torch.isfinite(value).all():
            return name
    return None


def all_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, then buffers."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def not_finite_values(
    model: nn.Module, error: Exception, seen: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """What was computed before an exception, if something in it was not finite.

    Looked at are the weights and buffers of the model and its teacher, the input and the recorded features, and the
    variables of the functions that the exception went through. Of the latter only NaN counts: an attention mask or a
    cost of infinity is there on purpose.

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
            if isinstance(module, nn.Module) and first_not_finite(all_tensors(module)):
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
