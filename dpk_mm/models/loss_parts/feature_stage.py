"""Which stages of two networks a feature loss compares, as ``stages`` in its config says it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ...errors import UsageError, did_you_mean
from .distill_loss import at_least_float32

SIDES = ('student', 'teacher')


class FeatureStage(NamedTuple):
    """One pair of stages, as an entry of ``stages`` in a config describes it.

    Attributes:
        student: Place in the student's recorded tuple; negative numbers count from the end.
        teacher: Place in the teacher's.
        weight: Factor of this stage, > 0.
        student_channels: Channels of the student's feature; None where the loss needs no number.
        teacher_channels: Channels of the teacher's feature.
        scale: The student's side over the teacher's: 1, 2 where the student's map is twice as large, 0.5 where it is
            half as large.
        extra: Keys of the loss's own.
    """

    student: int
    teacher: int
    weight: float
    student_channels: int | None
    teacher_channels: int | None
    scale: float
    extra: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The stage's name in logs, and its key in checkpoints."""
        return f'stage{self.student}' if self.student >= 0 else f'stage_last{-self.student}'


KEYS = (
    'index',
    'student_index',
    'teacher_index',
    'weight',
    'student_channels',
    'teacher_channels',
    'scale',
)


def parse_stages(
    stages: Sequence[Mapping[str, Any]],
    owner: str,
    needs_channels: bool = False,
    extra: Sequence[str] = (),
    unread: Sequence[str] = (),
) -> tuple[FeatureStage, ...]:
    """The stages that a config names, shallow first.

    Args:
        stages: Each a dict with ``index`` (or ``student_index`` and ``teacher_index``), and where they are needed
            ``weight`` (1.0), ``student_channels``, ``teacher_channels`` and ``scale`` (1).
        owner: The loss, the subject of the errors' sentences.
        needs_channels: Whether the loss builds layers that need the channels of both sides.
        extra: Further keys that the loss reads.
        unread: Keys of stages that it does not read, and that are refused.

    Returns:
        The stages, without those of weight 0.

    Raises:
        UsageError: (a ValueError) If there is no stage, one lacks its index or its channels, a student's stage stands
            twice, a key is unknown or not read, or a number is out of its range.
    """
    if isinstance(stages, (str, Mapping)) or not isinstance(stages, Sequence):
        raise UsageError(
            f'stages of {owner} must be a list of dicts, such as [dict(index=0), dict(index=1)], but is {stages!r}.'
        )
    found = [
        _stage(f'stages[{position}] of {owner}', entry, needs_channels, tuple(extra), unread)
        for position, entry in enumerate(stages)
    ]
    names = [stage.name for stage in found]
    if len(set(names)) < len(names):
        raise UsageError(
            f"stages of {owner} names the student's stage {max(names, key=names.count)} twice; name each once."
        )
    found = [stage for stage in found if stage.weight]
    if not found:
        raise UsageError(
            f'stages of {owner} names no stage of a weight > 0; give at least one, such as dict(index=0).'
        )
    return tuple(found)


def _stage(
    where: str, entry: Any, needs_channels: bool, extra: Sequence[str], unread: Sequence[str]
) -> FeatureStage:
    if not isinstance(entry, Mapping):
        raise UsageError(
            f'{where} must be a dict with index, such as dict(index=0), but is {entry!r}.'
        )
    known = [key for key in (*KEYS, *extra) if key not in unread]
    for key in entry:
        if key in unread:
            raise UsageError(
                f'{where} has {key}={entry[key]!r}, which the loss does not read; leave it out.'
            )
        if key not in known:
            hint = did_you_mean(str(key), known) or '.'
            raise UsageError(f'{where} has no key {key!r}, only {", ".join(known)}{hint}')
    place = {}
    channels = {}
    for side in SIDES:
        place[side] = entry.get(f'{side}_index', entry.get('index'))
        if not _is_int(place[side]):
            raise UsageError(
                f'{where} needs the index of the {side}, the place of the stage in the recorded tuple, but has '
                f'{place[side]!r}; give index, or student_index and teacher_index.'
            )
        count = channels[side] = entry.get(f'{side}_channels')
        if not (_is_int(count) and count > 0) and (needs_channels or count is not None):
            raise UsageError(
                f'{side}_channels in {where} must be an integer > 0, but is {count!r}.'
            )
    weight = entry.get('weight', 1.0)
    if not (_is_number(weight) and math.isfinite(weight) and weight >= 0):
        raise UsageError(f'weight in {where} must be a finite number >= 0, but is {weight!r}.')
    scale = entry.get('scale', 1)
    if not (_is_number(scale) and math.isfinite(scale) and scale > 0):
        raise UsageError(
            f"scale in {where} is the student's side over the teacher's, such as 1, 2 or 0.5, but is {scale!r}."
        )
    return FeatureStage(
        place['student'],
        place['teacher'],
        float(weight),
        channels['student'],
        channels['teacher'],
        float(scale),
        {key: entry[key] for key in extra if key in entry},
    )


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def pick_any(stage: FeatureStage, side: str, feats: Sequence[Tensor], owner: str) -> Tensor:
    """The feature of a stage on one side, of any shape, in float32 or more; the teacher's without gradient.

    Args:
        stage: The pair of stages.
        side: ``'student'`` or ``'teacher'``.
        feats: Features, as recorded; a single tensor counts as a tuple of one.
        owner: The loss, the subject of the errors' sentences.

    Raises:
        UsageError: (a ValueError) If the index is out of range.
    """
    feats = (feats,) if isinstance(feats, Tensor) else feats
    index: int = getattr(stage, side)
    if not -len(feats) <= index < len(feats):
        raise UsageError(
            f'{owner} compares the stage {index} of the {side}, but the record has {len(feats)} features; name one of '
            f'0 to {len(feats) - 1}, or record a module with more outputs.'
        )
    feature = feats[index]
    return at_least_float32(feature if side == 'student' else feature.detach())


def pick_feature(stage: FeatureStage, side: str, feats: Sequence[Tensor], owner: str) -> Tensor:
    """The feature of a stage on one side, in float32 or more; the teacher's without gradient.

    Args:
        stage: The pair of stages.
        side: ``'student'`` or ``'teacher'``.
        feats: ``[N, C, H, W]`` each, as recorded.
        owner: The loss, the subject of the errors' sentences.

    Raises:
        UsageError: (a ValueError) If the index is out of range, or the feature is no map of the expected channels.
    """
    feature = pick_any(stage, side, feats, owner)
    channels = getattr(stage, f'{side}_channels')
    if feature.ndim != 4 or channels not in (None, feature.shape[1]):
        expected = 'C' if channels is None else channels
        raise UsageError(
            f"{owner} expects the {side}'s stage {getattr(stage, side)} to be [N, {expected}, H, W], but found "
            f'{list(feature.shape)}; name another stage, or set {side}_channels.'
        )
    return feature


def check_scale(stage: FeatureStage, student: Tensor, teacher: Tensor, owner: str) -> None:
    """Refuses two maps whose sides are not in the ratio that the config says, but for a cell of rounding.

    Maps of another ratio are mostly stages of two strides that were paired by their places. A side of one cell has no
    slack, and at ``scale=1`` one of two cells has none either.

    Raises:
        UsageError: (a ValueError) If they are not, or the batches differ.
    """
    if student.shape[0] != teacher.shape[0]:
        raise UsageError(
            f'{owner} needs the same images on both sides, but {stage.name} has {student.shape[0]} of the student and '
            f'{teacher.shape[0]} of the teacher; record both from the same forward pass.'
        )
    for own, given in zip(student.shape[2:], teacher.shape[2:], strict=True):
        # the larger side may be one short of a multiple of the smaller one
        ratio = max(stage.scale, 1 / stage.scale)
        small, large = (given, own) if stage.scale >= 1 else (own, given)
        # of few cells, a difference of one is another stride; but a convolution of stride 2 makes 2 of 3
        slack = 1 if min(small, large) > (2 if ratio == 1 else 1) else 0
        if abs(large - ratio * small) > slack * max(1.0, ratio - 1):
            sides = [f'{x.shape[2]}x{x.shape[3]}' for x in (student, teacher)]
            raise UsageError(
                f"{owner} compares the student's map of {sides[0]} with the teacher's of {sides[1]} at {stage.name}, "
                f'but scale is {stage.scale:g}; set scale={own / given:g} there if the two are to be compared, or name '
                'stages of one stride with student_index and teacher_index.'
            )
