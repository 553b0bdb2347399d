"""Parameters that no loss needs any more, under DistributedDataParallel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class _ZeroGradient(torch.autograd.Function):
    """Zero, with a gradient of zero to all of its arguments, also where they are not finite."""

    @staticmethod
    def forward(ctx: Any, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*parameters)
        return parameters[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.zeros_like(parameter) for parameter in ctx.saved_tensors)


def with_zero_gradient(
    losses: Mapping[str, Tensor | Sequence[Tensor]], parameters: Sequence[Tensor]
) -> dict[str, Any]:
    """The same losses, whose backward pass gives ``parameters`` a gradient of zero.

    DistributedDataParallel waits for the gradient of every parameter that it was built with.

    Args:
        losses: As mmengine takes them. The first one whose name has "loss" in it carries the gradient.
        parameters: All of them require gradients.
    """
    losses = dict(losses)
    name = next((name for name in losses if 'loss' in name), None)
    if name is None or not parameters:
        return losses
    value, zero = losses[name], _ZeroGradient.apply(*parameters)
    if isinstance(value, Tensor):
        losses[name] = value + zero.to(value)
    else:
        losses[name] = [value[0] + zero.to(value[0]), *value[1:]]
    return losses
