"""FGD's parameter-free attention maps."""

from __future__ import annotations

import torch
from torch import Tensor


def attention_of(strength: Tensor, temperature: float) -> Tensor:
    """Softmax of strengths, scaled to mean 1: ``K * softmax(strength / T)``.

    Args:
        strength: ``[N, K]``, mean magnitudes of K positions or channels.
        temperature: T > 0; smaller is sharper.

    Returns:
        ``[N, K]``, mean 1 over each row.

    Source: FGD, what A^S and A^C of Eq. 8 have in common.
    """
    return strength.shape[1] * (strength / temperature).softmax(1)


def spatial_attention(feature: Tensor, temperature: float) -> Tensor:
    """Where a feature map is strong: ``H * W * softmax(mean_c |F| / T)``.

    Args:
        feature: ``[N, C, H, W]``.
        temperature: T > 0; smaller is sharper.

    Returns:
        ``[N, H, W]`` float32, mean 1 over each image.

    Source: FGD, A^S in Eq. 8 (DPK's text calls it learnable; it has no parameter).
    """
    n, _, h, w = feature.shape
    strength = feature.abs().mean(1, dtype=torch.float32).flatten(1)
    return attention_of(strength, temperature).view(n, h, w)


def channel_attention(feature: Tensor, temperature: float) -> Tensor:
    """Which channels of a feature map are strong: ``C * softmax(mean_hw |F| / T)``.

    Args:
        feature: ``[N, C, H, W]``.
        temperature: T > 0; smaller is sharper.

    Returns:
        ``[N, C]`` float32, mean 1 over each image.

    Source: FGD, A^C in Eq. 8.
    """
    strength = feature.abs().mean((2, 3), dtype=torch.float32)
    return attention_of(strength, temperature)
