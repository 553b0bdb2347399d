"""What a measurement of gradients needs of a run: its loss scale, and that all processes take part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor


def loss_scale(runner: Any) -> float:
    """The factor by which mixed precision multiplies the loss, 1 without it.

    Gradients that pass features in float16 vanish without it.
    """
    scaler = getattr(getattr(runner, 'optim_wrapper', None), 'loss_scaler', None)
    return float(scaler.get_scale()) if hasattr(scaler, 'get_scale') else 1.0


def on_every_rank(condition: bool, losses: Mapping[str, Tensor | Sequence[Tensor]]) -> bool:
    """Whether a condition is met on all ranks; each of them has to call it.

    Where the forward pass of one rank has failed, a backward pass of the others would wait for it in SyncBN.

    Args:
        condition: Of this rank.
        losses: Of its forward pass, for their device.
    """
    if get_world_size() == 1:
        return condition
    value = next(iter(losses.values()))
    device = value.device if isinstance(value, Tensor) else value[0].device
    met = torch.tensor(float(condition), device=device)
    all_reduce(met, op='min')
    return bool(met)
