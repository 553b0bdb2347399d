"""Methods on relations between the images of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .losses import Losses


def pkt(loss_weight: float = 30000.0) -> Losses:
    """PKT on the record ``embedding``.

    Args:
        loss_weight: Factor of the loss, that of public codes.
    """
    return dict(loss_pkt=dict(type='PKTLoss', loss_weight=loss_weight))


def sp(index: int | Sequence[int] = -1, loss_weight: float = 3000.0) -> Losses:
    """SP on the record ``feats``.

    Args:
        index: Places of the features; the last one by default.
        loss_weight: Factor of the loss, that of public codes.
    """
    return dict(loss_sp=dict(type='SPLoss', index=index, loss_weight=loss_weight))


def cc(
    student_channels: int, teacher_channels: int, loss_weight: float = 0.02, **kwargs: Any
) -> Losses:
    """CC on the record ``embedding``, as RepDistiller has it.

    Args:
        student_channels: Width of the student's embedding.
        teacher_channels: Width of the teacher's.
        loss_weight: Factor of the loss, that of RepDistiller.
        **kwargs: Of ``CCLoss``, such as ``mode='paper'``.
    """
    widths = dict(student_channels=student_channels, teacher_channels=teacher_channels)
    return dict(loss_cc=dict(type='CCLoss', loss_weight=loss_weight, **widths, **kwargs))


def rkd(distance: float = 25.0, angle: float = 50.0, **kwargs: Any) -> Losses:
    """RKD on the record ``embedding``.

    Args:
        distance: Factor of the distances.
        angle: Factor of the angles.
        **kwargs: Of ``RKDLoss``.
    """
    return dict(loss_rkd=dict(type='RKDLoss', distance=distance, angle=angle, **kwargs))
