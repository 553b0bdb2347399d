"""Masks with a shape: rectangles and regular grids."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .masking import TokenMask, mask_by_scores, num_masked_tokens

# Enough rectangles for ratios up to about 0.95; tokens that none of them covers are taken at random.
_BLOCKS = 32


def block_mask(
    batch_size: int,
    grid: tuple[int, int],
    mask_ratio: float,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
    min_area: float = 0.08,
    aspect_ratio: float = 0.3,
) -> TokenMask:
    """Masks rectangles of random place, area and aspect ratio until the count is reached.

    All rectangles of all samples are drawn at once; tokens are masked in the order of the first rectangle over them.
    The last rectangle is cut row by row where it would exceed the count, from its top or from its bottom at random.

    Args:
        batch_size: N.
        grid: (rows, columns) of tokens.
        mask_ratio: pi in [0, 1].
        device: Where the indices are made.
        generator: Source of randomness; torch's default one if None.
        min_area: Smallest area of a rectangle as a share of the grid, in (0, 1]; the largest is what is to be
            masked in all. BEiT has 16 of 196 tokens, 0.08.
        aspect_ratio: Rectangles have rows / columns between this, in (0, 1], and its inverse.

    Returns:
        A mask with ``num_masked_tokens(rows * columns, pi)`` teacher tokens in every sample.

    Raises:
        ValueError: If an argument is out of its range.

    Source: Table 6; Bao et al. 2022 (BEiT), Algorithm 1. BEiT may mask a few tokens less than asked; here every
    sample has exactly as many.
    """
    check_block(min_area, aspect_ratio)
    rows, columns = grid
    length = rows * columns
    count = num_masked_tokens(length, mask_ratio)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, device=device, generator=generator)

    drawn = uniform(5, batch_size, _BLOCKS)
    largest = max(count, 1)
    smallest = min(min_area * length, largest)
    area = smallest + drawn[0] * (largest - smallest)
    aspect = ((2 * drawn[1] - 1) * math.log(aspect_ratio)).exp()
    height = (area * aspect).sqrt().round().clamp(1, rows)
    width = (area / aspect).sqrt().round().clamp(1, columns)
    top = (drawn[2] * (rows - height + 1)).floor().unsqueeze(-1)
    left = (drawn[3] * (columns - width + 1)).floor().unsqueeze(-1)

    place = torch.arange(length, device=device)
    row, column = place // columns, place % columns
    inside = (row >= top) & (row < top + height.unsqueeze(-1))
    inside &= (column >= left) & (column < left + width.unsqueeze(-1))  # [N, blocks, L]
    turn = torch.arange(_BLOCKS, device=device).view(1, -1, 1)
    first = torch.where(inside, turn, _BLOCKS).amin(1)  # [N, L]

    downwards = place / length
    upwards = downwards.flip(0)
    within = torch.where(drawn[4, :, :1] < 0.5, downwards, upwards)
    within = torch.where(first < _BLOCKS, within, uniform(batch_size, length))
    return mask_by_scores(-(first + within), count)


def check_block(min_area: float, aspect_ratio: float) -> None:
    """Raises ValueError if an option of :func:`block_mask` is outside (0, 1]."""
    for name, value in (('min_area', min_area), ('aspect_ratio', aspect_ratio)):
        if not 0 < value <= 1:
            raise ValueError(f'{name} of a block mask must be in (0, 1], but is {value}.')


def grid_mask(
    batch_size: int,
    grid: tuple[int, int],
    mask_ratio: float,
    device: torch.device | str | None = None,
) -> TokenMask:
    """Masks tokens in a regular order, the same for every sample.

    Of every 2 x 2 tokens the upper right one goes first, then the lower left, the lower right, and last the upper
    left; within each of these four classes the same order decides, of every 2 x 2 of them, and so on (the order of
    a Bayer matrix). At a ratio of 0.5 this is a chequerboard; at 0.75 one token in four remains, the upper left one of
    every 2 x 2, if the sides are even; any other ratio is as even as it can be.

    Args:
        batch_size: N.
        grid: (rows, columns) of tokens, at least 2 x 2.
        mask_ratio: pi in [0, 1].
        device: Where the indices are made.

    Returns:
        A mask with ``num_masked_tokens(rows * columns, pi)`` teacher tokens in every sample.

    Raises:
        ValueError: If the grid of tokens is smaller than 2 x 2 or the ratio is outside [0, 1].

    Source: Table 6 ("regularly retains one of every four patches"); He et al. 2021 (MAE), which has no other ratio.
    """
    rows, columns = grid
    if min(grid) < 2:
        raise ValueError(
            f"mask is 'grid', whose cells are 2 x 2 tokens, but the map has {rows} x {columns} tokens; use "
            "mask='random', or a smaller patch_size."
        )
    count = num_masked_tokens(rows * columns, mask_ratio)
    row = torch.arange(rows, device=device).unsqueeze(1)
    column = torch.arange(columns, device=device).unsqueeze(0)
    # [row parity, column parity] -> turn: right, left below, right below, left
    # made on the device: a copy from the host would be a synchronisation
    turns = ((torch.arange(4, device=device) + 3) % 4).view(2, 2)
    rank = torch.zeros(rows, columns, dtype=torch.int64, device=device)
    for _ in range((max(grid) - 1).bit_length()):
        rank = rank * 4 + turns[row % 2, column % 2]
        row, column = row // 2, column // 2
    one = mask_by_scores(-rank.view(1, -1), count)
    return TokenMask(one.student.expand(batch_size, -1), one.teacher.expand(batch_size, -1))
