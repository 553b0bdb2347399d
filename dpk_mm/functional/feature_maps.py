"""Token sequences of transformers as feature maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor


def tokens_to_map(
    tokens: Tensor, extra_tokens: int = 0, grid: Sequence[int] | None = None
) -> Tensor:
    """Puts class and distillation tokens aside and lays the patch tokens out as a map.

    Args:
        tokens: ``[N, L, C]``, extra tokens first, then the patches row by row.
        extra_tokens: How many tokens stand before those of the patches: 1 for a class token, 2 for a
            class and a distillation token.
        grid: (rows, columns) of the patches; a square if None.

    Returns:
        ``[N, C, rows, columns]``, a view.

    Raises:
        ValueError: If the tokens are not ``[N, L, C]``, or do not fill the grid. The sentence starts with
            the name of the argument to change: ``extra_tokens`` or ``grid``.
    """
    if tokens.ndim != 3:
        raise ValueError(f'tokens must be [N, L, C], but the shape is {tuple(tokens.shape)}.')
    length = tokens.shape[1]
    patches = length - extra_tokens
    if extra_tokens < 0 or patches < 1:
        raise ValueError(
            f'extra_tokens is {extra_tokens}, but must be in 0..{length - 1}: the feature has '
            f'{length} tokens; set how many of them are class or distillation tokens.'
        )
    if grid is not None:
        rows, columns = grid
        if rows * columns != patches:
            raise ValueError(
                f'grid is ({rows}, {columns}), {rows * columns} patches, but the feature has {length} tokens, '
                f'{patches} without the {extra_tokens} extra ones; set the rows and columns of the patches.'
            )
    else:
        rows = columns = math.isqrt(patches)
        if rows * columns != patches:
            hint = _square_hint(length)
            raise ValueError(
                f'extra_tokens is {extra_tokens}, but the feature has {length} tokens and {patches} '
                f'patches are not a square; set extra_tokens{hint}, or grid=(rows, columns).'
            )
    return tokens[:, extra_tokens:].transpose(1, 2).unflatten(2, (rows, columns))


def _square_hint(length: int) -> str:
    """The usual count of extra tokens that leaves a square."""
    for extra in range(3):
        side = math.isqrt(max(length - extra, 0))
        if side and side * side == length - extra:
            return f'={extra}'
    return ''
