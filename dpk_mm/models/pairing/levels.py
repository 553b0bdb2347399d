"""Which feature of the student is compared with which of the teacher: those of one stride."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from .probe import Feature

# Strides need not be powers of two, as SSD's last ones; beyond this ratio they are those of two levels.
_MOST = 1.3
# In powers of two: a map of 11 cells of a 1344 pixels wide image has the stride 128 and not 122.
_ROUNDING = 0.2


class LevelPair(NamedTuple):
    """Two features of one stride.

    Attributes:
        student: Of the student.
        teacher: Of the teacher.
    """

    student: Feature
    teacher: Feature

    @property
    def stride(self) -> int:
        """The teacher's stride: the power of two that it is but for rounding, else the nearest whole number."""
        stride = self.teacher.stride
        exponent = round(math.log2(stride))
        return 2**exponent if abs(math.log2(stride) - exponent) < _ROUNDING else round(stride)

    @property
    def name(self) -> str:
        """``'P4'`` for the stride 16, as pyramids count; ``'s100'`` for one that is no power of two."""
        exponent = self.stride.bit_length() - 1
        return f'P{exponent}' if self.stride == 2**exponent else f's{self.stride}'


def pair_by_stride(student: Sequence[Feature], teacher: Sequence[Feature]) -> list[LevelPair]:
    """The pairs of features of one stride, shallow first; each feature is in one pair at most.

    Of several features of one stride on a side the last is taken, which is the deepest.

    Args:
        student: Of the student.
        teacher: Of the teacher.
    """
    free = list(teacher)
    pairs = []
    for own in reversed(student):
        ratios = [
            (max(own.stride, t.stride) / min(own.stride, t.stride), -i) for i, t in enumerate(free)
        ]
        if not ratios:
            break
        ratio, place = min(ratios)
        if ratio < _MOST:
            given = free[-place]
            free = [
                t
                for t in free
                if max(t.stride, given.stride) / min(t.stride, given.stride) >= _MOST
            ]
            pairs.append(LevelPair(own, given))
    return pairs[::-1]
