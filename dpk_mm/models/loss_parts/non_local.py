"""The relation of every position of a feature map to all others, as a residual block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NonLocal(nn.Module):
    """``x + BN(W y)`` with ``y_i = 1 / P * sum over j of (theta(x_i) . phi(x_j)) g(x_j)``.

    theta, phi, g and W are 1x1 convolutions; j runs over the P positions that are left when phi(x) and g(x) are pooled
    by their maximum. BN starts with the weight 0, so that the block is the identity at first.

    Args:
        channels: Channels of the feature.
        width: Channels of theta, phi and g.
        pool: Side of the windows of the pooling; smaller where the map is.

    Source: Wang et al. 2018, "Non-local Neural Networks", the dot product in section 3.2 and the block in section 3.3.
    """

    def __init__(self, channels: int, width: int, pool: int = 1) -> None:
        super().__init__()
        self.pool = pool
        self.theta = nn.Conv2d(channels, width, 1)
        self.phi = nn.Conv2d(channels, width, 1)
        self.g = nn.Conv2d(channels, width, 1)
        self.out = nn.Conv2d(width, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        for conv in (self.theta, self.phi, self.g, self.out):
            nn.init.normal_(conv.weight, std=0.01)
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """The feature ``[N, C, H, W]`` with its relations."""
        side = min(self.pool, *x.shape[2:])
        theta = self.theta(x).flatten(2)
        phi, g = (F.max_pool2d(conv(x), side).flatten(2) for conv in (self.phi, self.g))
        # [N, H W, P] times [N, P, width]
        related = torch.einsum('nci,ncj,ndj->ndi', theta, phi, g) / phi.shape[2]
        return x + self.norm(self.out(related.unflatten(2, x.shape[2:])))
