"""Entries of the grids on the blood cells (BCCD), which differ by detector, settings and seeds alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Configs of a method, by detector.
CONFIG = 'configs/experiments/bccd/{}_{}.py'
#: The student trained without a teacher.
BASELINE = 'baseline'
#: Methods whose config is called otherwise.
_FILES = {BASELINE: 'alone'}
_LOSS = 'model.distiller.distill_losses.loss_feat'


def teacher(detector: str, width: int, seed: int) -> dict[str, Any]:
    """The entry of a teacher.

    Args:
        detector: ``'faster_rcnn'`` or ``'retinanet'``.
        width: Channels of its first stage; the student has 8.
        seed: Of its training.
    """
    return dict(
        name=teacher_name(width, seed),
        config=CONFIG.format(detector, 'teacher'),
        method='teacher',
        label=f'width {width}',
        seed=seed,
        options=_backbone('model', width),
    )


def student(
    detector: str,
    method: str,
    seed: int,
    lr: float,
    width: int | None = None,
    weight: float = 1.0,
    setting: Mapping[str, Any] | None = None,
    teacher_seed: int = 0,
    without_level: str | None = None,
    inherit: bool = True,
) -> dict[str, Any]:
    """The entry of a student.

    Args:
        detector: As of its teacher.
        method: ``BASELINE``, or one of the configs with a teacher.
        seed: Of its training.
        lr: Learning rate of the student.
        width: The teacher's; None for ``BASELINE``.
        weight: Factor of all terms of the distillation.
        setting: What is shown of these in the tables.
        teacher_seed: Of the teacher's training.
        without_level: A level that DPK leaves to FGD, such as ``'P3'``.
        inherit: Whether the student starts from the teacher's output convolutions and heads.

    Raises:
        ValueError: If a method with a teacher is given no width.
    """
    shown = dict(setting or {})
    words = [method, *(f'{key}-{value}'.replace(' ', '-') for key, value in shown.items())]
    entry: dict[str, Any] = dict(
        config=CONFIG.format(detector, _FILES.get(method, method)),
        method=method,
        seed=seed,
        setting=shown,
    )
    if method == BASELINE:
        entry['options'] = {'optim_wrapper.optimizer.lr': lr}
    else:
        if width is None:
            raise ValueError(f'{method!r} has a teacher, so width must be given')
        words.append(f'w{width}')
        entry['teacher'] = teacher_name(width, teacher_seed)
        entry['options'] = {
            **_backbone('model.teacher', width),
            'optim_wrapper.architecture.optimizer.lr': lr,
            f'{_LOSS}.loss_weight': weight,
        }
        if not inherit:
            entry['options']['model.inherit'] = None
        if without_level is not None:
            entry['options'][f'{_LOSS}.transforms.{without_level}'] = None
    entry['name'] = '-'.join([*words, f's{seed}'])
    return entry


def teacher_name(width: int, seed: int) -> str:
    """Name of a teacher's entry."""
    return f'teacher-w{width}-s{seed}'


def _backbone(prefix: str, width: int) -> dict[str, Any]:
    return {
        f'{prefix}.backbone.base_channels': width,
        f'{prefix}.neck.in_channels': [width, 2 * width, 4 * width, 8 * width],
    }
