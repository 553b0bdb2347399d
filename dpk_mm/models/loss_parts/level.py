"""Which levels of a feature pyramid are compared: indices on both sides, weights and channels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import did_you_mean


class Level(NamedTuple):
    """One pair of levels, as an entry of ``levels`` in a config describes it.

    Attributes:
        student: Index in the student's recorded tuple, >= 0.
        teacher: Index in the teacher's.
        weight: Factor of this level, >= 0; a level with 0 is not compared.
        student_channels: Channels of the student's feature.
        teacher_channels: Channels of the teacher's feature.
        resize: Whether the student's feature may be of half the teacher's size or less, or of twice it or more.
    """

    student: int
    teacher: int
    weight: float
    student_channels: int
    teacher_channels: int
    resize: bool = False


KEYS = (
    'index',
    'student_index',
    'teacher_index',
    'weight',
    'student_channels',
    'teacher_channels',
    'resize',
)


def parse_levels(
    levels: Sequence[int | Mapping[str, Any]],
    student_channels: int,
    teacher_channels: int,
    owner: str,
) -> tuple[Level, ...]:
    """The levels that a config names.

    Args:
        levels: Each an index that holds on both sides, or a dict with ``index`` (or ``student_index`` and
            ``teacher_index``), and where they differ from the others ``weight``, ``student_channels``,
            ``teacher_channels`` and ``resize``.
        student_channels: Of the levels that do not say it.
        teacher_channels: Likewise.
        owner: The loss, the subject of the errors' sentences.

    Returns:
        The levels, without those of weight 0.

    Raises:
        ValueError: If there is none, an index is missing, negative or used twice on the student's side, a key is
            unknown, or a weight is not a finite number >= 0.
    """
    found = [
        _level(position, entry, student_channels, teacher_channels, owner)
        for position, entry in enumerate(levels)
    ]
    indices = [level.student for level in found]
    if (
        not indices
        or len(set(indices)) < len(indices)
        or min(min(level[:2]) for level in found) < 0
    ):
        raise ValueError(
            f'levels of {owner} must be different indices >= 0, but is {levels!r}; use (0, 1, 2, 3) for P2 to P5 of '
            'a two-stage FPN.'
        )
    return tuple(level for level in found if level.weight)


def _level(
    position: int,
    entry: int | Mapping[str, Any],
    student_channels: int,
    teacher_channels: int,
    owner: str,
) -> Level:
    where = f'levels[{position}] of {owner}'
    if isinstance(entry, int) and not isinstance(entry, bool):
        return Level(entry, entry, 1.0, student_channels, teacher_channels)
    if not isinstance(entry, Mapping):
        raise ValueError(
            f'{where} must be an index or a dict with index, but is {entry!r}; see parse_levels.'
        )
    for key in entry:
        if key not in KEYS:
            raise ValueError(
                f'{where} has no key {key!r}, only {", ".join(KEYS)}{did_you_mean(str(key), KEYS)}'
            )
    sides = [entry.get(f'{side}_index', entry.get('index')) for side in ('student', 'teacher')]
    for side, index in zip(('student', 'teacher'), sides, strict=True):
        if not isinstance(index, int) or isinstance(index, bool):
            raise ValueError(
                f'{where} needs the index of the {side}, but has {index!r}; give index, or student_index and '
                'teacher_index.'
            )
    weight = entry.get('weight', 1.0)
    number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    if not (number and math.isfinite(weight) and weight >= 0):
        raise ValueError(f'weight in {where} must be a finite number >= 0, but is {weight!r}.')
    return Level(
        sides[0],
        sides[1],
        float(weight),
        entry.get('student_channels', student_channels),
        entry.get('teacher_channels', teacher_channels),
        bool(entry.get('resize', False)),
    )
