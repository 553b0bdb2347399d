"""Patch embedding of feature maps, its inverse, and positional embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def grid_of(feature_shape: tuple[int, int], patch_size: int) -> tuple[int, int]:
    """The grid of k x k patches that covers a feature map.

    Args:
        feature_shape: (H, W).
        patch_size: k.

    Returns:
        (rows, columns); the last patches may extend beyond the map.
    """
    return -(-feature_shape[0] // patch_size), -(-feature_shape[1] // patch_size)


class PatchEmbed(nn.Module):
    """Cuts a feature map into k x k patches and projects each to a token.

    A map that is not a whole number of patches is padded with zeros on the right and at the bottom.

    Args:
        in_channels: C.
        embed_dims: Width D of a token.
        patch_size: k, in feature cells.

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


class OrthogonalPatchEmbed(nn.Module):
    """A :class:`PatchEmbed` whose projection is orthogonal, whatever is learned.

    With D >= C * k * k it is an isometry: it turns patches, and can change neither their lengths nor the angles between
    them, so that it cannot take up a scale, or a basis that is not orthogonal, in the student's place. With a smaller
    D its rows are orthonormal.

    Args:
        in_channels: C.
        embed_dims: Width D of a token.
        patch_size: k, in feature cells.

    Source: VkD (CVPR 2024), whose projection is parametrised in the same way.
    """

    def __init__(self, in_channels: int, embed_dims: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.in_channels = in_channels
        # Not torch's default for matrices that are not square, Householder reflections: their signs are numbers 1.0 in
        # the parameter, which a weight decay makes 0.9999 and the conversion to integers then 0, the matrix with them.
        self.proj = nn.utils.parametrizations.orthogonal(
            nn.Linear(in_channels * patch_size**2, embed_dims, bias=False), orthogonal_map='cayley'
        )
        self.bias = nn.Parameter(torch.zeros(embed_dims))

    def forward(self, feature: Tensor) -> Tensor:
        """``[N, C, H, W]`` -> ``[N, ceil(H / k) * ceil(W / k), D]``, row by row."""
        k = self.patch_size
        height, width = feature.shape[-2:]
        if height % k or width % k:
            feature = F.pad(feature, (0, -width % k, 0, -height % k))
        with torch.autocast(feature.device.type, enabled=False):  # of a matrix of full precision
            matrix = self.proj.weight
            assert isinstance(matrix, Tensor)
            weight = matrix.reshape(-1, self.in_channels, k, k)
        return F.conv2d(feature, weight, self.bias, stride=k).flatten(2).transpose(1, 2)


def unpatchify(tokens: Tensor, feature_shape: tuple[int, int], patch_size: int) -> Tensor:
    """Puts decoded patches together to a map and crops the padding.

    Args:
        tokens: ``[N, L, C * k * k]``, row by row, each token ordered (C, k, k).
        feature_shape: (H, W) to crop to.
        patch_size: k.

    Returns:
        ``[N, C, H, W]``.
    """
    rows, columns = grid_of(feature_shape, patch_size)
    n, k = tokens.shape[0], patch_size
    x = tokens.reshape(n, rows, columns, -1, k, k).permute(0, 3, 1, 4, 2, 5)
    x = x.reshape(n, -1, rows * k, columns * k)
    return x[..., : feature_shape[0], : feature_shape[1]]


def sinusoid_table(length: int, dims: int, device: torch.device | None = None) -> Tensor:
    """Sinusoidal 1-D positional embedding: sine in the even, cosine in the odd columns.

    Args:
        length: Number of positions.
        dims: Width D.
        device: Where the table is made.

    Returns:
        ``[length, dims]`` float32.

    Source: Vaswani et al. 2017; the authors' code uses this table although the text says "learnable".
    """
    place = torch.arange(length, dtype=torch.float64, device=device).unsqueeze(1)
    column = torch.arange(dims, device=device)
    angle = place / 10000 ** ((column // 2 * 2).double() / dims)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()


@lru_cache(maxsize=64)
def bicubic_matrix(length: int, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The matrix of a bicubic interpolation along one dimension, as ``F.interpolate`` does it.

    A product with it has a backward that is deterministic on CUDA, which that of ``F.interpolate`` is not.

    Args:
        length: Values to make.
        size: Values that there are.
        device: Where the matrix is.
        dtype: Of the matrix.

    Returns:
        ``[length, size]``, without gradient; kept for the next call.
    """
    rows = []
    for place in range(length):
        at = (place + 0.5) * size / length - 0.5  # cells' centres, corners not aligned
        first = math.floor(at) - 1
        row = [0.0] * size
        for cell in range(first, first + 4):
            row[min(max(cell, 0), size - 1)] += _bicubic(abs(at - cell))  # the border goes on
        rows.append(row)
    # Kept for training, too, where a tensor of the inference mode could not be saved for the backward.
    with torch.inference_mode(False):
        return torch.tensor(rows, device=device, dtype=dtype)


def _matrix(length: int, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    kept = bicubic_matrix(length, size, device, dtype)
    # one that was made while a graph was captured holds no numbers
    return kept if type(kept) is Tensor else bicubic_matrix.__wrapped__(length, size, device, dtype)


def _bicubic(x: float, a: float = -0.75) -> float:
    """Keys' kernel at a distance of 0 to 2; ``a`` as in PyTorch."""
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return a * (((x - 5) * x + 8) * x - 4)


class PositionEmbedding(nn.Module):
    """Positional embedding of a grid of tokens.

    Args:
        embed_dims: Width D.
        kind: 'learnable' (one vector for each token of a reference grid, interpolated bicubically for any other grid)
            or 'sinusoidal' (no parameters).
        grid: Reference grid (rows, columns) of the learnable table; give the grid you train at, then nothing is
            interpolated.

    Raises:
        ValueError: If ``kind`` is unknown, or ``grid`` is not of whole numbers of at least 1.

    Source: A.2 ("standard learnable 1D position embeddings"); the authors' code has the sinusoidal table.
    """

    KINDS = ('learnable', 'sinusoidal')

    def __init__(self, embed_dims: int, kind: str, grid: int | tuple[int, int] = 14) -> None:
        super().__init__()
        if kind not in self.KINDS:
            raise ValueError(f'position_embedding must be one of {self.KINDS}, but is {kind!r}.')
        self.embed_dims = embed_dims
        self.grid = _checked_grid(grid)
        self.table: nn.Parameter | None = None
        if kind == 'learnable':
            self.table = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1], embed_dims))
            nn.init.trunc_normal_(self.table, std=0.02)
        self._sinusoid: dict[tuple[int, torch.device], Tensor] = {}

    def forward(self, grid: tuple[int, int], device: torch.device) -> Tensor:
        """The embedding ``[1, rows * columns, D]`` of a grid of (rows, columns) tokens."""
        if self.table is None:
            return self._sinusoidal(grid[0] * grid[1], device)
        if tuple(grid) == self.grid:
            return self.table
        return self._interpolated(self.table, grid)

    def _interpolated(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        dtype = torch.promote_types(table.dtype, torch.float32)
        rows, columns = (
            _matrix(length, size, table.device, dtype)
            for length, size in zip(grid, self.grid, strict=True)
        )
        # of full precision; autocast does not know the device 'meta'
        kind = 'cpu' if table.is_meta else table.device.type
        with torch.autocast(kind, enabled=False):
            values = table.to(dtype).unflatten(1, self.grid)
            values = torch.einsum('ri,nijd->nrjd', rows, values)
            return torch.einsum('cj,nrjd->nrcd', columns, values).flatten(1, 2)

    def _sinusoidal(self, length: int, device: torch.device) -> Tensor:
        # Making a table costs more than adding it; the number kept is limited, for inputs of many sizes.
        key = (length, device)
        if key not in self._sinusoid:
            if len(self._sinusoid) >= 8:
                self._sinusoid.clear()
            self._sinusoid[key] = sinusoid_table(length, self.embed_dims, device).unsqueeze(0)
        return self._sinusoid[key]


def _checked_grid(grid: int | Sequence[int]) -> tuple[int, int]:
    """``position_grid`` as (rows, columns)."""
    sides = (grid, grid) if isinstance(grid, int) else grid
    whole = isinstance(sides, Sequence) and all(
        isinstance(side, int) and not isinstance(side, bool) and side >= 1 for side in sides
    )
    if not whole or len(sides) != 2:
        raise ValueError(
            f'position_grid must be a whole number >= 1 or (rows, columns), but is {grid!r}.'
        )
    return sides[0], sides[1]
