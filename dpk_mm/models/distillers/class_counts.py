"""Student and teacher have the same classes where logits are distilled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.models.losses import WSLD, DISTLoss, DKDLoss, KDSoftCELoss, KLDivergence
from torch import Tensor, nn

from dpk_mm.errors import UsageError

#: Losses of two classifiers' logits, compared class by class.
LOGITS_LOSSES = (DISTLoss, DKDLoss, KDSoftCELoss, KLDivergence, WSLD)


def check_class_counts(
    distiller: ConfigurableDistiller, student: nn.Module, teacher: nn.Module
) -> None:
    """Compares the classifiers whose logits a loss compares, as far as the modules tell.

    Args:
        distiller: With its recorders prepared.
        student: The student.
        teacher: The teacher.

    Raises:
        UsageError: If the classes differ in number.
    """
    for name, mapping in getattr(distiller, 'loss_forward_mappings', {}).items():
        if not _compares_classes(distiller.distill_losses[name]):
            continue
        found: dict[str, str] = {}
        counts = set()
        for record in mapping.values():
            own = record['from_student']
            manager = distiller.student_recorders if own else distiller.teacher_recorders
            source = manager.get_recorder(record['recorder']).source
            # names of functions and methods are sources, too
            module = dict((student if own else teacher).named_modules()).get(source)
            classes = getattr(module, 'out_features', getattr(module, 'out_channels', None))
            if classes is not None and record.get('connector') is None:
                side = 'student' if own else 'teacher'
                found[side] = f'{side} ({source}) has {classes}'
                counts.add(classes)
        if len(found) == 2 and len(counts) > 1:
            raise UsageError(_different(name, found['student'], found['teacher']))


def check_logits(
    name: str, loss: nn.Module, student: Sequence[Any], teacher: Sequence[Any]
) -> None:
    """Compares recorded logits, for heads whose modules do not tell.

    Args:
        name: Of the loss.
        loss: The loss.
        student: What it gets of the student; logits are ``[N, classes, ...]``.
        teacher: What it gets of the teacher.

    Raises:
        UsageError: If the classes differ in number.
    """
    if not _compares_classes(loss):
        return
    sides = [
        [x.shape[1] for x in side if isinstance(x, Tensor) and x.ndim > 1]
        for side in (student, teacher)
    ]
    for own, given in zip(*sides, strict=False):
        if own != given:
            raise UsageError(_different(name, f'student has {own}', f'teacher has {given}'))


def _compares_classes(loss: nn.Module) -> bool:
    return isinstance(loss, LOGITS_LOSSES) or getattr(loss, 'compares_classes', False)


def _different(name: str, student: str, teacher: str) -> str:
    return (
        f'distill_losses.{name} compares logits class by class, but the {student} classes and the {teacher}: give '
        f'both heads the same num_classes, with a teacher that was trained on these classes, or take {name} out of '
        'distill_losses and loss_forward_mappings.'
    )
