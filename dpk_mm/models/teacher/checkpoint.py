"""Loads a teacher or a student strictly, or says in one sentence why not."""

from __future__ import annotations

import os.path as osp
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from dpk_mm.checkpoint.pretrained import is_pretrained
from dpk_mm.checkpoint.student import STUDENT_PREFIX
from dpk_mm.checkpoint.weights import load_exactly, select_weights
from dpk_mm.compat.checkpoint import load_checkpoint_file
from dpk_mm.errors import UsageError, first_few
from dpk_mm.models.backbones.published import revise_published_keys


def missing_teacher(teacher_ckpt: str, command: str | None) -> str:
    """The sentence for a teacher file that is not there."""
    hint = f'train it with `{command}`, or ' if command else ''
    return (
        f'teacher_ckpt: {teacher_ckpt!r} does not exist; {hint}give another file with '
        '--teacher-ckpt FILE.'
    )


def is_remote(path: str) -> bool:
    """Whether a checkpoint is named by URL or by a model-zoo scheme."""
    return '://' in path


def pretrained_file(init_cfg: Any) -> str | None:
    """The checkpoint of a whole model that its ``init_weights()`` would load; mmpretrain's ``pretrained`` sets it.

    Args:
        init_cfg: Of a model or its config.

    Returns:
        File, URL or model-zoo scheme; None where it names none, or a part of a larger checkpoint (``prefix``).
    """
    for cfg in init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]:
        if is_pretrained(cfg) and not cfg.get('prefix'):
            return cfg.get('checkpoint')
    return None


def load_teacher(
    teacher: nn.Module, teacher_ckpt: str, command: str | None = None, averaged: bool = True
) -> None:
    """Loads weights into a teacher; every key and shape has to fit, but for harmless extras.

    Args:
        teacher: An mmdet or mmpretrain model.
        teacher_ckpt: File, URL or model-zoo scheme; read with ``weights_only=True``. A published CIFAR-100
            teacher or torchvision ResNet is renamed on the way.
        command: What makes the file; named if it is missing.
        averaged: Which weights are taken where the file holds averaged (EMA) and raw ones.

    Raises:
        FileNotFoundError: If a local file does not exist.
        UsageError: (a ValueError) If keys or shapes differ.
    """
    if not is_remote(teacher_ckpt) and not osp.isfile(teacher_ckpt):
        raise FileNotFoundError(missing_teacher(teacher_ckpt, command))
    _load(
        teacher,
        teacher_ckpt,
        f'teacher_ckpt: {teacher_ckpt!r} does not fit the teacher of the config',
        'give the checkpoint of this very model, or change teacher= to the model of the checkpoint.',
        averaged,
    )


def load_initial_student(student: nn.Module, student_ckpt: str, averaged: bool = True) -> None:
    """Loads the weights that a student starts from (a warm start); every key and shape has to fit.

    Args:
        student: An mmdet or mmpretrain model.
        student_ckpt: As ``teacher_ckpt`` of :func:`load_teacher`.
        averaged: As there.

    Raises:
        FileNotFoundError: If a local file does not exist.
        UsageError: (a ValueError) If keys or shapes differ.
    """
    if not is_remote(student_ckpt) and not osp.isfile(student_ckpt):
        raise FileNotFoundError(
            f'student_ckpt: {student_ckpt!r} does not exist; give another file, or model.student_ckpt=None for a '
            'student that starts anew.'
        )
    _load(
        student,
        student_ckpt,
        f'student_ckpt: {student_ckpt!r} does not fit the student of the config',
        'give the checkpoint of this very model, or student_ckpt=None for a student that starts anew.',
        averaged,
    )


def _load(model: nn.Module, path: str, complaint: str, remedy: str, averaged: bool) -> None:
    if is_remote(path):
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    else:
        checkpoint = load_checkpoint_file(path)
    try:
        selected, note = select_weights(checkpoint, averaged)
    except UsageError as error:
        raise UsageError(f'{path}: {error}') from None
    if note:
        print_log(f'{path}: {note}.', 'current')
        checkpoint = dict(state_dict=selected, meta=checkpoint.get('meta') or {})
    found, _ = select_weights(revise_published_keys(checkpoint, model))
    if any(key.startswith(STUDENT_PREFIX) for key in found):  # a student of ours becomes a teacher
        found = OrderedDict(
            (key[len(STUDENT_PREFIX) :], value)
            for key, value in found.items()
            if key.startswith(STUDENT_PREFIX)
        )
    misfits = load_exactly(model, found)
    wrong = [
        f'{k} is {found_shape} instead of {expected}'
        for k, (found_shape, expected) in misfits.shapes.items()
    ]
    wrong += misfits.errors
    wrong += [f'{k} is missing' for k in misfits.missing]
    wrong += [f'{k} is unknown' for k in misfits.unexpected]
    if wrong:
        raise UsageError(f'{complaint}: {first_few(wrong)}; {remedy}')


def inherit_weights(student: nn.Module, teacher: nn.Module, parts: Sequence[str]) -> None:
    """The student's parts start from the teacher's (FGD's inheriting strategy).

    Args:
        student: Changed in place.
        teacher: Loaded before.
        parts: Module names such as 'neck', 'rpn_head', 'roi_head' or 'neck.fpn_convs', and names of parameters or
            buffers such as 'level_embed'.

    Raises:
        UsageError: (a ValueError) If a part is missing on either side or its weights differ in name or shape.
    """
    for part in parts:
        sides = {}
        for side, model in (('student', student), ('teacher', teacher)):
            sides[side] = _part(model, part)
            if sides[side] is None:
                loose = (name for name, _ in model.named_parameters(recurse=False))
                known = ', '.join([*(name for name, _ in model.named_children()), *loose])
                raise UsageError(
                    f'inherit: the {side} has no part {part!r}; its parts are {known}.'
                )
        own, given = (_weights(sides[side], part) for side in ('student', 'teacher'))
        wrong = [f'{k} is only in one of them' for k in own.keys() ^ given.keys()]
        wrong += [
            f'{k} is {tuple(own[k].shape)} in the student and {tuple(given[k].shape)} in the teacher'
            for k in own.keys() & given.keys()
            if own[k].shape != given[k].shape
        ]
        if wrong:
            raise UsageError(
                f"inherit: {part!r} of the student cannot start from the teacher's: "
                f'{first_few(sorted(wrong))}; take {part!r} out of inherit, or give both the same widths.'
            )
        if isinstance(sides['student'], nn.Module):
            sides['student'].load_state_dict(sides['teacher'].state_dict())
        else:
            sides['student'].copy_(sides['teacher'])


def _part(model: nn.Module, name: str) -> nn.Module | Tensor | None:
    """A module by its name, or else a parameter or buffer, which shares its memory with the model's."""
    module = dict(model.named_modules()).get(name) if name else None
    return model.state_dict().get(name) if module is None else module


def _weights(part: nn.Module | Tensor, name: str) -> dict[str, Tensor]:
    return part.state_dict(prefix=f'{name}.') if isinstance(part, nn.Module) else {name: part}
