"""Pairs of networks that cannot learn from each other by a method, or are the wrong way round."""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import UsageError
from .losses import METHODS
from .networks import Network
from .probe import TASKS, Look

# A teacher below this share of the student's parameters and of its operations is taken for an exchange: of the same
# kind of model and backbone, and of another kind, which may be better at a smaller size.
_SAME_KIND = 0.9
_OTHER_KIND = 0.25


def check_task(student: Network, teacher: Network, methods: Iterable[str]) -> None:
    """Both networks are of one task, and the methods are for it.

    Raises:
        UsageError: (a ValueError) If not.
    """
    own, given = TASKS[student.scope], TASKS[teacher.scope]
    if own != given:
        raise UsageError(
            f'model.architecture is a {own} and model.teacher a {given}: take two models of one task.'
        )
    for name in methods:
        if own not in METHODS[name].tasks:
            fitting = [other for other, method in METHODS.items() if own in method.tasks]
            raise UsageError(
                f'model.method: {name} is not for a {own}; there are {", ".join(fitting)}.'
            )


def check_images(student: Look, teacher: Look) -> None:
    """Both networks take images of as many channels: they are shown the same ones.

    Raises:
        UsageError: (a ValueError) If not.
    """
    own, given = student.image_channels, teacher.image_channels
    if own != given:
        raise UsageError(
            f'model.architecture takes images of {own} {_channels(own)}, and model.teacher of {given} '
            f'{_channels(given)}, but both are shown the same ones: take a teacher of such images.'
        )


def _channels(count: int) -> str:
    return 'channel' if count == 1 else 'channels'


def check_exchanged(student: Look, teacher: Look) -> None:
    """The teacher is not smaller than the student.

    Raises:
        UsageError: (a ValueError) If it has both fewer parameters and fewer operations; where models or
            backbones are of two kinds, less than a quarter of both.
    """
    sides = [(look.kind, look.attributes.get('backbone')) for look in (student, teacher)]
    same = sides[0] == sides[1]
    share = _SAME_KIND if same else _OTHER_KIND
    fewer = teacher.parameters < share * student.parameters
    if fewer and teacher.operations < share * student.operations:
        raise UsageError(
            f'model.teacher has {teacher.parameters / 1e6:.1f} million parameters and model.architecture, the '
            f'student, {student.parameters / 1e6:.1f}: exchange the two, or set model.smaller_teacher=True if the '
            'teacher is to be the smaller one.'
        )
