"""Windows of a token grid: attention within them costs as much as the map is large, not its square."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Windows(NamedTuple):
    """How a map is cut into equal windows, row by row.

    Attributes:
        rows: Windows down the map.
        columns: Windows across it.
        height: Cells of a window; the last ones may extend beyond the map.
        width: Likewise.
    """

    rows: int
    columns: int
    height: int
    width: int


def windows_of(feature_shape: tuple[int, int], patch_size: int, max_tokens: int) -> Windows | None:
    """The windows of at most ``max_tokens`` patches that cover a map.

    The grid is divided as evenly as whole tokens allow: along a side, fewer tokens lie beyond the map than there are
    windows.

    Args:
        feature_shape: (H, W), in cells.
        patch_size: k; a token is a patch of k x k cells.
        max_tokens: Most tokens of a window, at least 1.

    Returns:
        None where the whole map has no more than ``max_tokens``.
    """
    grid = [-(-side // patch_size) for side in feature_shape]
    if grid[0] * grid[1] <= max_tokens:
        return None
    side = math.isqrt(max_tokens)
    counts = [-(-tokens // side) for tokens in grid]
    sides = [-(-tokens // count) for tokens, count in zip(grid, counts, strict=True)]
    return Windows(counts[0], counts[1], sides[0] * patch_size, sides[1] * patch_size)


def split_windows(feature: Tensor, windows: Windows) -> Tensor:
    """Cuts a map into windows, which become samples of their own.

    Args:
        feature: ``[N, C, H, W]``; cells beyond it are zero.
        windows: From :func:`windows_of` for (H, W).

    Returns:
        ``[N * rows * columns, C, height, width]``, the windows of an image beside each other.
    """
    rows, columns, height, width = windows
    n, channels, *shape = feature.shape
    feature = F.pad(feature, (0, columns * width - shape[1], 0, rows * height - shape[0]))
    parts = feature.view(n, channels, rows, height, columns, width)
    return parts.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, height, width)


def merge_windows(parts: Tensor, windows: Windows, feature_shape: tuple[int, int]) -> Tensor:
    """The inverse of :func:`split_windows`.

    Args:
        parts: ``[N * rows * columns, C, height, width]``.
        windows: As for :func:`split_windows`.
        feature_shape: (H, W).

    Returns:
        ``[N, C, H, W]``.
    """
    rows, columns, height, width = windows
    parts = parts.unflatten(0, (-1, rows, columns)).permute(0, 3, 1, 4, 2, 5)
    whole = parts.reshape(*parts.shape[:2], rows * height, columns * width)
    return whole[..., : feature_shape[0], : feature_shape[1]]
