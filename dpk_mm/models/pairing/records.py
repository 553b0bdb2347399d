"""What is recorded of two networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...errors import UsageError
from .levels import LevelPair, pair_by_stride
from .losses import METHODS
from .probe import Feature, Look, describe

# A level has at least as many cells along its longer side: what a teacher has in fewer, few boxes have taught it.
_LEAST_CELLS = 4
# What is before the last four strides of a classifier is its stem.
_STAGES = 4


def shared_levels(
    student: Look, teacher: Look, method: str, row: Callable[[str, Any, str], None]
) -> list[LevelPair]:
    """The pairs of features that can be compared, shallow first.

    Args:
        student: Of the student.
        teacher: Of the teacher.
        method: The name of the method, for the sentences.
        row: Takes what was chosen.

    Raises:
        UsageError: (a ValueError) If a side has no features, or they have no stride in common.
    """
    instead = '; take a method on logits, such as kd' if student.task == 'classifier' else ''
    for key, look in (('architecture', student), ('teacher', teacher)):
        if not look.features:
            raise UsageError(
                f'model.{key}: {look.why_none}, so {method} finds no features{instead}.'
            )
    levels = pair_by_stride(student.features, teacher.features)
    if not levels:
        raise UsageError(
            f'Student and teacher have no features of one stride: {describe(student.features)} of the student and '
            f'{describe(teacher.features)} of the teacher{instead or "; take a teacher with a common one"}.'
        )
    levels = _useful(student, levels) if student.task == 'detector' else levels[-_STAGES:]
    names = ', '.join(f'{level.name} ({level.stride})' for level in levels)
    left = {
        'student': [f for f in student.features if f not in [level.student for level in levels]],
        'teacher': [f for f in teacher.features if f not in [level.teacher for level in levels]],
    }
    rest = '; '.join(
        f'{", ".join(LevelPair(f, f).name for f in features)} of the {side} left out'
        for side, features in left.items()
        if features
    )
    why = 'the same stride on both sides' + (f'; {rest}' if rest else '')
    row('levels (stride)', names, why)
    return levels


def _useful(student: Look, levels: list[LevelPair]) -> list[LevelPair]:
    """Without levels of too few cells, and of a two-stage student without those that no box is taken from."""
    strides = student.attributes.get('roi_strides') or ()
    for test in (
        lambda level: max(level.teacher.cells) >= _LEAST_CELLS,
        lambda level: not strides or level.stride in strides,
    ):
        found = [level for level in levels if test(level)]
        levels = found or levels
    return levels


def one_by_one(levels: Sequence[LevelPair]) -> list[LevelPair]:
    """Several levels of classifiers as one record holds them: one tuple of a module, or modules one by one.

    A level that only the backbone's own tuple has is left out beside others, unless it is the last.
    """
    if len(levels) <= 1:
        return list(levels)
    sides = [_one_record([level[side] for level in levels]) for side in (0, 1)]
    pairs = list(zip(*sides, strict=True))
    if None in pairs[-1]:
        return list(levels[-1:])
    return [LevelPair(own, given) for own, given in pairs if own and given]


def _one_record(features: Sequence[Feature]) -> list[Feature | None]:
    if all(feature.index is not None for feature in features):
        return list(features)
    return [
        feature._replace(source=feature.alone or feature.source, index=None)
        if feature.index is None or feature.alone
        else None
        for feature in features
    ]


def records_of(
    methods: Iterable[str], levels: Sequence[LevelPair], student: Look, teacher: Look
) -> dict[str, Any]:
    """``records`` of the distiller.

    Args:
        methods: Names of the methods.
        levels: What of the features is compared.
        student: Of the student.
        teacher: Of the teacher.

    Raises:
        UsageError: (a ValueError) If a method needs logits that no module gives.
    """
    records: dict[str, Any] = {}
    for name in methods:
        record = METHODS[name].record
        if record == 'feats':
            records[record] = _by_side(*(_source([level[i] for level in levels]) for i in (0, 1)))
            continue
        for key, look in (('architecture', student), ('teacher', teacher)):
            if look.logits is None:
                raise UsageError(
                    f'model.{key}: no module of a {look.kind} gives the logits, which {name} compares; take a method '
                    'on features, such as dpk.'
                )
        if record == 'logits':
            records[record] = _by_side(student.logits, teacher.logits)
        else:
            records[record] = {
                side: dict(type='ModuleInputs', source=look.logits)
                for side, look in (('student', student), ('teacher', teacher))
            }
    return records


def _source(features: Sequence[Feature]) -> str | list[str]:
    """The one module whose tuple has them, or the modules that give them one by one."""
    if all(feature.index is not None for feature in features):
        return features[0].source
    return [feature.source for feature in features]


def _by_side(student: Any, teacher: Any) -> Any:
    return student if student == teacher else dict(student=student, teacher=teacher)
