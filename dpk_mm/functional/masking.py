"""Which tokens the teacher gives.

A :class:`TokenMask` names, for every sample of a batch, the tokens that stay the student's and
those that come from the teacher. All samples have the same count of each, so that everything behind
it stays dense.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class TokenMask(NamedTuple):
    """Two complementary sets of token indices.

    Attributes:
        student: ``[N, L - M]`` int64, indices of the tokens that the student keeps, ascending.
        teacher: ``[N, M]`` int64, indices of the student's masked tokens, which the teacher's tokens
            replace, ascending.
    """

    student: Tensor
    teacher: Tensor

    @property
    def num_tokens(self) -> int:
        """L, the tokens of one sample."""
        return self.student.shape[1] + self.teacher.shape[1]

    def as_bool(self) -> Tensor:
        """``[N, L]`` bool, True where the student is masked and the teacher's token stands."""
        mask = torch.zeros(
            self.student.shape[0], self.num_tokens, dtype=torch.bool, device=self.student.device
        )
        return mask.scatter_(1, self.teacher, True)


def num_masked_tokens(num_tokens: int, mask_ratio: float) -> int:
    """How many of ``num_tokens`` tokens a ratio masks: the nearest integer that leaves both sides a token.

    Without a token of its own the student would get no gradient at all, as it would of a map of 10 tokens at 0.95, and
    without one of the teacher's the hybrid would have no prior knowledge. Ratios of exactly 0 and 1 are taken at their
    word, and a single token is given to the nearer side.

    The authors' code truncates (``int(N * pi)``), which masks half a token too little on average. On ImageNet with one
    stage it keeps at least 2 tokens of each side, elsewhere it masks at least 2 or 4 (40 in detection).

    Args:
        num_tokens: L.
        mask_ratio: pi in [0, 1].

    Returns:
        M in [0, L]; in [1, L - 1] if there are two tokens or more and the ratio is neither 0 nor 1.

    Raises:
        ValueError: If the ratio is outside [0, 1] or not a number.
    """
    if not 0.0 <= mask_ratio <= 1.0:
        raise ValueError(f'mask_ratio must be in [0, 1], but is {mask_ratio}.')
    nearest = min(num_tokens, int(num_tokens * mask_ratio + 0.5))
    if num_tokens > 1 and 0.0 < mask_ratio < 1.0:
        return min(max(nearest, 1), num_tokens - 1)
    return nearest


def mask_by_scores(scores: Tensor, num_masked: int) -> TokenMask:
    """Gives the teacher the ``num_masked`` tokens with the highest score in every sample.

    Args:
        scores: ``[N, L]``; equal scores are decided by the sort.
        num_masked: M in [0, L].

    Returns:
        A mask, ``student`` of ``[N, L - M]``, ``teacher`` of ``[N, M]``.
    """
    order = scores.argsort(dim=1, descending=True)
    # Ascending indices: the encoders attend over sets, but gathers run along memory.
    teacher = order[:, :num_masked].sort(dim=1).values
    student = order[:, num_masked:].sort(dim=1).values
    return TokenMask(student, teacher)


def random_mask(
    batch_size: int,
    num_tokens: int,
    mask_ratio: float,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> TokenMask:
    """Masks a uniformly random subset of each sample's tokens, drawn anew for every sample.

    Args:
        batch_size: N.
        num_tokens: L.
        mask_ratio: pi in [0, 1], share of the student's tokens that are masked.
        device: Where the indices are made.
        generator: Source of randomness; torch's default one if None.

    Returns:
        A mask with ``num_masked_tokens(L, pi)`` teacher tokens in every sample.

    Raises:
        ValueError: If the ratio is outside [0, 1].

    Source: Section 2.2 ("randomly mask a subset of feature patches of the student under a uniform
    distribution with the ratio pi, and also generate the complementary feature patches from the
    teachers").
    """
    num_masked = num_masked_tokens(num_tokens, mask_ratio)
    noise = torch.rand(batch_size, num_tokens, device=device, generator=generator)
    return mask_by_scores(noise, num_masked)


def unmasked(
    batch_size: int, num_tokens: int, device: torch.device | str | None = None
) -> TokenMask:
    """The mask that leaves all tokens to the student."""
    index = torch.arange(num_tokens, device=device).expand(batch_size, -1)
    return TokenMask(index, index[:, :0])


def tokens_to_cells(chosen: Tensor, feature_shape: tuple[int, int], patch_size: int) -> Tensor:
    """Which cells of a map belong to the chosen tokens.

    Args:
        chosen: ``[N, L]`` bool or float, row by row, of the k x k patches that cover the map.
        feature_shape: (H, W) of the map; patches that extend beyond it are cropped.
        patch_size: k.

    Returns:
        ``[N, 1, H, W]`` of the same dtype.
    """
    height, width = feature_shape
    cells = chosen.view(chosen.shape[0], 1, -(-height // patch_size), -1)
    for dim in (2, 3):
        cells = cells.repeat_interleave(patch_size, dim)
    return cells[..., :height, :width]


def take_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """``[N, L, D]`` and ``[N, M]`` indices -> ``[N, M, D]``."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def stitch_tokens(student: Tensor, teacher: Tensor, mask: TokenMask) -> Tensor:
    """Puts both streams back to their places: the hybrid tokens.

    Args:
        student: ``[N, L - M, D]``, in the order of ``mask.student``.
        teacher: ``[N, M, D]``, in the order of ``mask.teacher``.
        mask: Where they belong.

    Returns:
        ``[N, L, D]``.

    Source: Section 2.2 (the stitching before the decoder).
    """
    place = torch.cat([mask.student, mask.teacher], dim=1)
    tokens = torch.cat([student, teacher], dim=1)
    return torch.zeros_like(tokens).scatter(
        1, place.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]), tokens
    )
