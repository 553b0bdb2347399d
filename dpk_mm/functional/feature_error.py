"""The error of a feature as a share of the teacher's variance."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def error_and_variance(feature: Tensor, teacher: Tensor) -> Tensor:
    """Sums of squares whose quotient is the error as a share of the teacher's variance.

    Args:
        feature: ``[N, C, ...]``.
        teacher: ``[N, C, ...]``, of the same shape.

    Returns:
        ``[2]`` float32: ``sum (F - T)^2``, and ``sum (T - mean_c T)^2`` with the mean of each channel. A quotient of 0
        is the teacher's feature, 1 no better than its mean in each channel.
    """
    t = teacher.float().transpose(0, 1).flatten(1)
    variance = (t - t.mean(1, keepdim=True)).square().sum()
    return torch.stack([(feature.float() - teacher.float()).square().sum(), variance])


def channel_scale(teacher: Tensor, floor: float = 0.01) -> Tensor:
    """The spread of each channel of a feature, for targets of one scale.

    Args:
        teacher: ``[N, C, ...]``.
        floor: Share of the mean variance of all channels that is added to each, so that a channel that is almost
            constant, as after a ReLU, does not outweigh the others.

    Returns:
        ``[1, C, 1, ...]`` float32: ``sqrt(variance of the channel + floor * mean variance)``; 1 for a feature that is
        constant altogether.
    """
    t = teacher.float().transpose(0, 1).flatten(1)
    variance = t.var(1, unbiased=False)
    scale = (variance + floor * variance.mean()).sqrt()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return scale.view(1, -1, *[1] * (teacher.ndim - 2))
