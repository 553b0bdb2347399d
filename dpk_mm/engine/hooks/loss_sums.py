"""Sums of losses of a forward pass, as mmengine takes the sum of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

#: A tensor, or several of which each one's mean counts.
Losses = Mapping[str, Tensor | Sequence[Tensor]]


def sum_losses(losses: Losses, key_of: Callable[[str], str | None]) -> dict[str, Tensor]:
    """Sums losses under the keys that a function gives their names.

    Args:
        losses: Of a forward pass; names without "loss" are no losses.
        key_of: Name of a loss -> key, None to leave it out.

    Returns:
        Scalars, float32, on the graph of the losses.
    """
    sums: dict[str, Tensor] = {}
    for name, value in losses.items():
        key = key_of(name) if 'loss' in name else None
        if key is None:
            continue
        for tensor in [value] if isinstance(value, Tensor) else value:
            mean = tensor.mean().float()
            sums[key] = sums[key] + mean if key in sums else mean
    return sums


def total(losses: Losses, name: str) -> Tensor | None:
    """The sum of the losses called ``name`` or ``name.<part>``, a scalar; None if there is none."""
    return sum_losses(losses, lambda key: name if f'{key}.'.startswith(f'{name}.') else None).get(
        name
    )
