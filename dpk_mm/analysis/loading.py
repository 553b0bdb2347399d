"""Builds the networks of a config and loads their weights, as a training does, in one way for all analyses.

Building neither loads nor downloads anything; the weights come from the files that are named, and each has to fit.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from ..checkpoint.pretrained import remove_pretrained
from ..checkpoint.student import load_student, read_student
from ..checkpoint.student_config import student_config
from ..cli.options import load_config
from ..compat.checkpoint import load_checkpoint_file
from ..errors import UsageError, first_few
from ..models.losses import DPKLoss
from ..models.pairing import complete, is_short
from ..models.teacher.checkpoint import load_teacher

PathLike = str | os.PathLike[str]


def read_config(
    config: PathLike | Config,
    options: Mapping[str, Any] | None = None,
    teacher_ckpt: str | None = None,
    with_teacher: bool = True,
) -> Config:
    """Reads a config, or copies one; one of the short form is completed.

    Args:
        config: A file, or the config itself, which is left unchanged.
        options: Dotted keys and values of ``--cfg-options``, for a file.
        teacher_ckpt: The teacher's checkpoint in place of that of a short config, which need not name one then.
        with_teacher: Whether a short config has to say where the teacher's weights are.

    Raises:
        UsageError: If the file does not exist, or a key of ``options`` is a typing error.
    """
    if isinstance(config, Config):
        cfg = copy.deepcopy(config)
    else:
        cfg = load_config(os.fspath(config), options, complete_short=False)
    if not is_short(cfg):
        return cfg
    if teacher_ckpt is not None:
        cfg.model.teacher_ckpt = teacher_ckpt
    elif not with_teacher:
        cfg.model.setdefault('teacher_ckpt', None)
    return complete(cfg).cfg


@contextmanager
def scope_of(cfg: Config) -> Iterator[None]:
    """Lets names without a scope be those of the config's package, as the Runner does, inside of the block only."""
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        yield


def build_model(config: PathLike | Config) -> Any:
    """Builds the whole model of a config, a distillation or a plain one, with random weights.

    What would load or download weights (``pretrained``, ``teacher_ckpt``, ``student_ckpt``, ``init_cfg``) is not
    followed.

    Args:
        config: A file, or the config, which is left unchanged.

    Returns:
        The model in eval mode, with the config as its attribute ``cfg``.
    """
    cfg = read_config(config)
    if cfg.get('data_preprocessor'):
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)  # as the Runner does
    model_cfg = copy.deepcopy(cfg.model)
    remove_pretrained(model_cfg)
    with scope_of(cfg):
        model = MODELS.build(model_cfg)
    model.cfg = cfg
    return model.eval()


def build_student(
    config: PathLike | Config, checkpoint: PathLike | None = None, averaged: bool = True
) -> Any:
    """Builds the student of a distillation config, or the model of a plain one; the teacher is not needed.

    Args:
        config: A file, or the config, which is left unchanged.
        checkpoint: What such a training wrote, or a student alone; random weights if None.
        averaged: Which weights are taken where the file holds averaged (EMA) and raw ones.

    Returns:
        The student in eval mode, with its own config as its attribute ``cfg``.

    Raises:
        UsageError: If the config has no model, or the checkpoint does not fit it.
        FileNotFoundError: If the checkpoint does not exist.
    """
    model = build_model(student_config(read_config(config, with_teacher=False)))
    if checkpoint is not None:
        load_student_weights(model, checkpoint, averaged)
    return model


def load_student_weights(student: nn.Module, checkpoint: PathLike, averaged: bool = True) -> None:
    """Loads a student's weights from a checkpoint of a distillation or of the student alone.

    Raises:
        UsageError: If a weight is missing, left over or of another shape.
        FileNotFoundError: If the checkpoint does not exist.
    """
    weights, _ = read_student(checkpoint, averaged)
    load_student(student, weights, os.fspath(checkpoint))


def load_distillation(model: Any, checkpoint: PathLike, teacher_ckpt: str | None) -> None:
    """Loads student, distiller and teacher of a distillation model.

    Args:
        model: Of :func:`build_model`.
        checkpoint: A full checkpoint of that training.
        teacher_ckpt: File, URL or model-zoo scheme of the teacher; None if the checkpoint holds the teacher, as
            those of mmrazor's own algorithms do.

    Raises:
        UsageError: If a weight is missing or left over, or the teacher has none.
        FileNotFoundError: If a file does not exist.
    """
    source = os.fspath(checkpoint)
    content = load_checkpoint_file(checkpoint, map_location='cpu')
    missing, unexpected = model.load_state_dict(content.get('state_dict', content), strict=False)
    if any(name.startswith('distiller.') for name in missing):
        raise UsageError(
            f'{source} lacks {first_few(missing)}: a checkpoint of the whole training is needed, such as '
            'epoch_24.pth; student_best.pth and exported students do not hold the modules of the losses.'
        )
    if missing or unexpected:
        found = (
            f'lacks {first_few(missing)}' if missing else f'holds {first_few(unexpected)} besides'
        )
        raise UsageError(f'{source} {found}: give the config that it was trained with.')
    if teacher_ckpt:
        load_teacher(model.teacher, teacher_ckpt)
        model.teacher_ckpt = (
            teacher_ckpt  # else the first loss would report that the teacher is untrained
        )
    elif not any(name.startswith('teacher.') for name in model.state_dict()):
        raise UsageError(
            f'the teacher has no weights: {source} holds none of it, and the config has no model.teacher_ckpt; '
            'give its checkpoint with --teacher-ckpt FILE.'
        )


def load_own_teacher(model: Any) -> None:
    """Loads the teacher of a distillation from the ``teacher_ckpt`` of its config, which :func:`build_model` leaves.

    Args:
        model: Of :func:`build_model`, a distillation.

    Raises:
        UsageError: If the config has none, or it does not fit.
        FileNotFoundError: If the file does not exist.
    """
    cfg = model.cfg.model
    checkpoint = cfg.get('teacher_ckpt')
    if not checkpoint:
        raise UsageError(
            'the teacher has no checkpoint: give it with --teacher-ckpt FILE, or set model.teacher_ckpt.'
        )
    load_teacher(
        model.teacher, checkpoint, cfg.get('teacher_command'), cfg.get('averaged_weights', True)
    )
    # else init_weights() or the first loss would report that the teacher is untrained
    model.teacher_ckpt = checkpoint


def dpk_losses(model: Any, source: PathLike) -> dict[str, DPKLoss]:
    """The ``DPKLoss`` modules of a distillation model by name.

    Args:
        model: Of :func:`build_model`.
        source: The config, for the message.

    Raises:
        UsageError: If there is none.
    """
    losses = getattr(getattr(model, 'distiller', None), 'distill_losses', {})
    found = {name: loss for name, loss in losses.items() if isinstance(loss, DPKLoss)}
    if not found:
        raise UsageError(
            f'{os.fspath(source)} has no DPKLoss; give a config of configs/dpk or configs/mini.'
        )
    return found
