"""The size of DPK's transformation modules, from the features that they join."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .levels import LevelPair
from .probe import Size

MOST_TOKENS = 450
"""The most tokens of a stage: attention grows with their square. A 1333x1333 image has 441 by the authors' sizes."""
LEAST_CELLS = 6
"""A stage has at least as many cells along its longer side."""
LEAST_STRIDE = 16
HEADS = 8


def stages_of(levels: Sequence[LevelPair], deepest_only: bool = False) -> list[LevelPair]:
    """The levels that DPK transforms: of a stride of at least 16, with at least 6 cells; else the last one.

    Args:
        levels: All pairs of levels, shallow first.
        deepest_only: Whether the last alone is taken, as for a classifier.
    """
    found = [
        level
        for level in levels
        if level.stride >= LEAST_STRIDE and max(level.teacher.cells) >= LEAST_CELLS
    ]
    if deepest_only:
        return list(levels[-1:])
    return found or list(levels[-1:])


def patch_size_of(cells: Size) -> int:
    """The smallest power of two by which a map has at most :data:`MOST_TOKENS` tokens."""
    patch = 1
    while math.ceil(cells[0] / patch) * math.ceil(cells[1] / patch) > MOST_TOKENS:
        patch *= 2
    return patch


def transform_of(level: LevelPair) -> dict[str, Any]:
    """The arguments of the ``DPKTransform`` of a level, without its indices.

    The widths are those of the authors' pyramids (256 channels) where it has as many: the encoders' that of the
    teacher's feature, twice it for patches of 4x4 or more, at most 512; the decoder's twice that for patches.
    """
    cells = level.teacher.cells
    patch = patch_size_of(cells)
    width = level.teacher.channels * (2 if patch >= 4 else 1)
    width = max(64, min(512, math.ceil(width / HEADS) * HEADS))
    arguments: dict[str, Any] = dict(
        student_channels=level.student.channels,
        teacher_channels=level.teacher.channels,
        patch_size=patch,
        embed_dims=width,
        encoder_depth=4,
        num_heads=HEADS,
        decoder_embed_dims=2 * width if patch > 1 else width,
        decoder_depth=4,
        decoder_num_heads=HEADS,
        position_grid=(math.ceil(cells[0] / patch), math.ceil(cells[1] / patch)),
    )
    for side, feature in (('student', level.student), ('teacher', level.teacher)):
        if feature.extra_tokens:
            arguments[f'{side}_extra_tokens'] = feature.extra_tokens
        if feature.tokens and feature.cells[0] != feature.cells[1]:
            arguments[f'{side}_grid'] = feature.cells
    return arguments
