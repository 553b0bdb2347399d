"""Loads a teacher or a student strictly, or says in one sentence why not."""

from __future__ import annotations

import os.path as osp
from collections.abc import Mapping, Sequence

from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from dpk_mm.compat.checkpoint import load_checkpoint_file
from dpk_mm.errors import UsageError
from dpk_mm.models.backbones.published import revise_published_keys


def _weights(checkpoint: dict) -> dict[str, Tensor]:
    # mmengine says 'state_dict'; files of timm and DeiT say 'model', with names as of a wrapped model
    nested = (checkpoint.get(key) for key in ('state_dict', 'model'))
    state = next((value for value in nested if isinstance(value, Mapping)), checkpoint)
    if state and all(key.startswith('module.') for key in state):
        state = {key[len('module.') :]: value for key, value in state.items()}
    if any(key.startswith('architecture.') for key in state):  # a student of ours becomes a teacher
        state = {
            key[len('architecture.') :]: value
            for key, value in state.items()
            if key.startswith('architecture.')
        }
    return state


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


def load_teacher(teacher: nn.Module, teacher_ckpt: str, command: str | None = None) -> None:
    """Loads weights into a teacher; every key and shape has to fit.

    Args:
        teacher (nn.Module): An mmdet or mmpretrain model.
        teacher_ckpt (str): File, URL or model-zoo scheme; read with ``weights_only=True``. A published CIFAR-100
            teacher or torchvision ResNet is renamed on the way.
        command (str, optional): What makes the file; named if it is missing.

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
    )


def load_student(student: nn.Module, student_ckpt: str) -> None:
    """Loads the weights that a student starts from (a warm start); every key and shape has to fit.

    Args:
        student (nn.Module): An mmdet or mmpretrain model.
        student_ckpt (str): As ``teacher_ckpt`` of :func:`load_teacher`.

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
    )


def _load(model: nn.Module, path: str, complaint: str, remedy: str) -> None:
    if is_remote(path):
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    else:
        checkpoint = load_checkpoint_file(path)
    found = _weights(dict(revise_published_keys(checkpoint, model)))
    expected = model.state_dict()
    # Shapes first: some models resize on loading, and that would hide a file for another image size.
    wrong = [
        f'{k} is {tuple(found[k].shape)} instead of {tuple(expected[k].shape)}'
        for k in expected
        if k in found and found[k].shape != expected[k].shape
    ]
    if not wrong:
        # After loading, since a model's own hooks may rename what older files hold.
        keys = model.load_state_dict(found, strict=False)
        wrong = [f'{k} is missing' for k in keys.missing_keys if not _optional(k)]
        wrong += [f'{k} is unknown' for k in keys.unexpected_keys if not _optional(k)]
    if wrong:
        raise UsageError(f'{complaint}: {_few(wrong)}; {remedy}')


def inherit_weights(student: nn.Module, teacher: nn.Module, parts: Sequence[str]) -> None:
    """The student's parts start from the teacher's (FGD's inheriting strategy).

    Args:
        student (nn.Module): Changed in place.
        teacher (nn.Module): Loaded before.
        parts (Sequence[str]): Module names such as 'neck', 'rpn_head', 'roi_head' or 'neck.fpn_convs'.

    Raises:
        UsageError: (a ValueError) If a part is missing on either side or its weights differ in name or shape.
    """
    for part in parts:
        sides = {}
        for side, model in (('student', student), ('teacher', teacher)):
            module = dict(model.named_modules()).get(part) if part else None
            if module is None:
                known = ', '.join(name for name, _ in model.named_children())
                raise UsageError(
                    f'inherit: the {side} has no part {part!r}; its parts are {known}.'
                )
            sides[side] = module
        own, given = sides['student'].state_dict(), sides['teacher'].state_dict()
        wrong = [f'{part}.{k} is only in one of them' for k in own.keys() ^ given.keys()]
        wrong += [
            f'{part}.{k} is {tuple(own[k].shape)} in the student and {tuple(given[k].shape)} in the teacher'
            for k in own.keys() & given.keys()
            if own[k].shape != given[k].shape
        ]
        if wrong:
            raise UsageError(
                f"inherit: {part!r} of the student cannot start from the teacher's: "
                f'{_few(sorted(wrong))}; take {part!r} out of inherit, or give both the same widths.'
            )
        sides['student'].load_state_dict(given)


def _optional(key: str) -> bool:
    # BatchNorm's counters are absent from old files, and inference does not read them.
    return key.endswith('num_batches_tracked')


def _few(items: list[str], most: int = 3) -> str:
    more = f' and {len(items) - most} more' if len(items) > most else ''
    return ', '.join(items[:most]) + more
