"""Feature maps to tokens and back, and where a token stands."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def grid_of(feature_shape: tuple[int, int], patch_size: int) -> tuple[int, int]:
    """(rows, columns) of whole patches that cover a map of (H, W)."""
    return -(-feature_shape[0] // patch_size), -(-feature_shape[1] // patch_size)


class PatchEmbed(nn.Module):
    """Cuts a feature map into k x k patches and projects each to a token.

    A map that is not a whole number of patches is padded with zeros on the right and at the bottom.

    Args:
        in_channels (int): C.
        embed_dims (int): Width D of a token.
        patch_size (int): k, in feature cells.

    Source: Section 2.2 ("a k x k convolution with stride k").
    """

    def __init__(self, in_channels: int, embed_dims: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, embed_dims, patch_size, stride=patch_size)

    def forward(self, feature: Tensor) -> Tensor:
        """``[N, C, H, W]`` -> ``[N, ceil(H / k) * ceil(W / k), D]``, row by row."""
        k = self.patch_size
        height, width = feature.shape[-2:]
        if height % k or width % k:
            feature = F.pad(feature, (0, -width % k, 0, -height % k))
        return self.proj(feature).flatten(2).transpose(1, 2)


def unpatchify(tokens: Tensor, feature_shape: tuple[int, int], patch_size: int) -> Tensor:
    """Puts decoded patches back to a map and crops what was padded.

    Args:
        tokens (Tensor): ``[N, L, C * k * k]``, row by row, each token ordered (C, k, k).
        feature_shape (tuple[int, int]): (H, W) to crop to.
        patch_size (int): k.

    Returns:
        Tensor: ``[N, C, H, W]``.
    """
    rows, columns = grid_of(feature_shape, patch_size)
    n, k = tokens.shape[0], patch_size
    x = tokens.reshape(n, rows, columns, -1, k, k).permute(0, 3, 1, 4, 2, 5)
    x = x.reshape(n, -1, rows * k, columns * k)
    return x[..., : feature_shape[0], : feature_shape[1]]


def sinusoid_table(length: int, dims: int, device: torch.device | None = None) -> Tensor:
    """Fixed 1-D positions ``[length, dims]``: sine in the even, cosine in the odd columns.

    Source: Vaswani et al. 2017; the authors' code uses this table although the text says "learnable".
    """
    place = torch.arange(length, dtype=torch.float64, device=device).unsqueeze(1)
    column = torch.arange(dims, device=device)
    angle = place / 10000 ** ((column // 2 * 2).double() / dims)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()


class PositionEmbedding(nn.Module):
    """What is added to tokens so that they know their place.

    Args:
        embed_dims (int): Width D.
        kind (str): 'learnable' (A.2: "standard learnable 1D position embeddings"; one vector for each token of a
            reference grid, interpolated bicubically for any other grid) or 'sinusoidal' (authors' code; no parameters).
        grid (int | tuple[int, int]): Reference grid (rows, columns) of the learnable table; give the grid you train
            at, then nothing is interpolated.

    Raises:
        ValueError: If ``kind`` is unknown.
    """

    KINDS = ('learnable', 'sinusoidal')

    def __init__(self, embed_dims: int, kind: str, grid: int | tuple[int, int] = 14) -> None:
        super().__init__()
        if kind not in self.KINDS:
            raise ValueError(f'position_embedding must be one of {self.KINDS}, but is {kind!r}.')
        self.embed_dims = embed_dims
        self.grid = (grid, grid) if isinstance(grid, int) else tuple(grid)
        self.table: nn.Parameter | None = None
        if kind == 'learnable':
            self.table = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1], embed_dims))
            nn.init.trunc_normal_(self.table, std=0.02)
        self._sinusoid: dict[tuple[int, torch.device], Tensor] = {}

    def forward(self, grid: tuple[int, int], device: torch.device) -> Tensor:
        """Positions ``[1, rows * columns, D]`` for a grid of (rows, columns) tokens."""
        if self.table is None:
            return self._sinusoidal(grid[0] * grid[1], device)
        if tuple(grid) == self.grid:
            return self.table
        table = self.table.unflatten(1, self.grid).permute(0, 3, 1, 2)
        table = F.interpolate(table.float(), size=grid, mode='bicubic', align_corners=False)
        return table.flatten(2).transpose(1, 2)

    def _sinusoidal(self, length: int, device: torch.device) -> Tensor:
        # A table costs more than adding it; inputs of ever new sizes must not pile tables up.
        key = (length, device)
        if key not in self._sinusoid:
            if len(self._sinusoid) >= 8:
                self._sinusoid.clear()
            self._sinusoid[key] = sinusoid_table(length, self.embed_dims, device).unsqueeze(0)
        return self._sinusoid[key]
