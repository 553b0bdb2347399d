"""The student's weights, and a checkpoint that holds nothing else.

The checkpoints of a distilled model hold ``architecture.*`` (the student) and ``distiller.*``. What a user deploys is
the student, under the plain names (``backbone.*``, ``neck.*``, ...) that mmdet and mmpretrain give it.
"""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..compat.checkpoint import load_checkpoint_file
from ..errors import UsageError, first_few
from ..fileio import write_bytes_atomically
from .weights import load_exactly, select_weights

STUDENT_PREFIX = 'architecture.'
# What a distilled model may hold besides its student; mmrazor's own algorithms save the teacher.
TRAINING_PREFIXES = ('distiller.', 'teacher.', 'data_preprocessor.')

# The key of a full checkpoint's ``meta`` with the text of the student's config. It is written in
# training and only copied later: making it from ``meta['cfg']`` would mean to execute that text.
STUDENT_CONFIG = 'student_cfg'


def student_state_dict(
    checkpoint: Mapping[str, Any], averaged: bool = True
) -> OrderedDict[str, Tensor]:
    """The student's weights under their plain names.

    Args:
        checkpoint: A loaded checkpoint or a bare state dict, of a distilled model (``architecture.*``
            beside ``distiller.*``, and ``teacher.*`` in files of mmrazor) or of the student alone
            (plain names); with or without ``module.`` before every name.
        averaged: Which weights are taken where the file holds those of an exponential moving
            average (EMA) and the raw ones, see :func:`select_weights`.

    Returns:
        A new dict; only a leading ``architecture.`` is taken off. The tensors are not copied.

    Raises:
        UsageError: If the checkpoint is neither of the two.
    """
    state, _ = select_weights(checkpoint, averaged)
    if not state:
        raise UsageError(
            "the checkpoint holds no weights: a dict with a 'state_dict' or a bare state dict was "
            'expected.'
        )
    strange = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise UsageError(
            f'the checkpoint holds no weights: {strange[0]!r} is a '
            f'{type(state[strange[0]]).__name__}, but a tensor was expected; a checkpoint of '
            "mmengine has its weights under 'state_dict'."
        )

    if not any(name.startswith(STUDENT_PREFIX) for name in state):
        if any(name.startswith('distiller.') for name in state) or all(
            name.startswith(TRAINING_PREFIXES) for name in state
        ):
            raise UsageError(
                f'the checkpoint holds no student: it has {first_few(state, quote=True)}, but {STUDENT_PREFIX}* '
                'beside distiller.*, or the plain names of the student alone, were expected; give '
                'a file that the training wrote.'
            )
        return _with_metadata(OrderedDict(state), getattr(state, '_metadata', None))

    foreign = [n for n in state if not n.startswith((STUDENT_PREFIX, *TRAINING_PREFIXES))]
    if foreign:
        raise UsageError(
            f'the checkpoint mixes {STUDENT_PREFIX}* with {first_few(foreign, quote=True)}, so which of them is '
            'the student is not clear: give a file that the training wrote, or one with the names '
            'of the student alone.'
        )
    weights = OrderedDict(
        (name[len(STUDENT_PREFIX) :], value)
        for name, value in state.items()
        if name.startswith(STUDENT_PREFIX)
    )
    metadata = getattr(state, '_metadata', None)
    if metadata is not None:
        # versions of the modules, by which ``load_state_dict`` converts older layouts
        metadata = OrderedDict(
            ((name + '.')[len(STUDENT_PREFIX) : -1], value)
            for name, value in metadata.items()
            if (name + '.').startswith(STUDENT_PREFIX)
        )
    return _with_metadata(weights, metadata)


def read_student(
    filename: str | os.PathLike[str], averaged: bool = True
) -> tuple[OrderedDict[str, Tensor], dict[str, Any]]:
    """Reads the student of a checkpoint file.

    Args:
        filename: A full or a student-only checkpoint: a file, or a URL.
        averaged: Which weights are taken where the file holds averaged (EMA) and raw ones; one
            line of the log says so.

    Returns:
        Its weights under plain names, and the checkpoint's ``meta`` (empty for a bare state dict). In
        ``meta``, ``cfg`` is the student's own config where the file has it, and is left out where the
        file only has the distillation config, with which stock tools would build the teacher.

    Raises:
        UsageError: If the checkpoint has no student.
        FileNotFoundError: If the file does not exist.
        CheckpointError: If the file cannot be read.
    """
    checkpoint = load_checkpoint_file(filename, map_location='cpu')
    try:
        state, note = select_weights(checkpoint, averaged)
        weights = student_state_dict(state)
    except UsageError as error:
        raise UsageError(f'{os.fspath(filename)}: {error}') from None
    if note:
        print_log(f'{os.fspath(filename)}: {note}.', 'current')
    meta = dict(checkpoint.get('meta') or {}) if 'state_dict' in checkpoint else {}
    own_config = meta.pop(STUDENT_CONFIG, None)
    if any(name.startswith(STUDENT_PREFIX) for name in state):
        meta.pop('cfg', None)
        if own_config is not None:
            meta['cfg'] = own_config
    return weights, meta


def load_student(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Loads weights into a student; each has to fit.

    Args:
        model: The student.
        weights: Its state dict, as :func:`student_state_dict` returns it.
        source: The name of the file, for the message.

    Raises:
        UsageError: If a weight is missing, left over or of another shape. Which may be left over is
            listed in ``dpk_mm/checkpoint/weights.py``; of those missing, only batch norm's counters
            (``num_batches_tracked``) do not count, since files of old releases lack them.
    """
    misfits = load_exactly(model, weights)
    trouble = [
        f'{kind} {first_few(names, quote=True)}'
        for kind, names in (('it lacks', misfits.missing), ('it has besides', misfits.unexpected))
        if names
    ]
    if misfits.shapes:
        shapes = [f'{k} is {list(a)} instead of {list(b)}' for k, (a, b) in misfits.shapes.items()]
        trouble.append(first_few(shapes))
    if misfits.errors:
        trouble.append(first_few(misfits.errors))
    if trouble:
        raise UsageError(
            f'{source} does not fit the student of the config, {type(model).__name__}: '
            f'{", and ".join(trouble)}; give the config that the checkpoint was trained with.'
        )


# The file.


def save_student(
    path: str | os.PathLike[str], weights: Mapping[str, Tensor], meta: Mapping[str, Any]
) -> None:
    """Writes a student-only checkpoint, whole or not at all.

    Args:
        path: The file; its folder is made if need be.
        weights: The student's state dict under plain names.
        meta: What stands beside it: ``dataset_meta``, ``cfg``, ``epoch``, ...

    Raises:
        DiskFullError: If there is no space left; an older file of that name stays as it was.
    """
    state = OrderedDict((name, value.cpu()) for name, value in weights.items())
    state = _with_metadata(state, getattr(weights, '_metadata', None))
    # In memory first: torch's error does not name a full disk as the cause.
    buffer = io.BytesIO()
    torch.save(dict(meta=dict(meta), state_dict=state), buffer)
    write_bytes_atomically(path, buffer.getbuffer())


def export_student(
    checkpoint_file: str | os.PathLike[str],
    out_file: str | os.PathLike[str],
    force: bool = False,
    averaged: bool = True,
) -> list[str]:
    """Writes the student of a checkpoint alone, for stock mmdet or mmpretrain.

    The new file holds ``state_dict`` (plain names) and ``meta`` as :func:`read_student` gives it, with
    ``dataset_meta`` (classes, colours).

    Args:
        checkpoint_file: A full or a student-only checkpoint.
        out_file: The file to write.
        force: Whether to replace ``out_file`` if it exists.
        averaged: Which weights are written where the file holds averaged (EMA) and raw ones.

    Returns:
        The names of the weights written.

    Raises:
        UsageError: If ``out_file`` cannot be written, see :func:`check_out_file`, or the checkpoint has no student.
        FileNotFoundError: If ``checkpoint_file`` does not exist.
        CheckpointError: If ``checkpoint_file`` cannot be read.
    """
    check_out_file(out_file, checkpoint_file, force)
    weights, meta = read_student(checkpoint_file, averaged)
    save_student(out_file, weights, meta)
    return list(weights)


def check_out_file(
    out_file: str | os.PathLike[str], checkpoint_file: str | os.PathLike[str], force: bool
) -> None:
    """Looks at where a student is to be written, before anything is read.

    Args:
        out_file: The file to write.
        checkpoint_file: What the student is taken from, a file or a URL.
        force: Whether a file may be replaced.

    Raises:
        UsageError: If it is a folder, exists and ``force`` is not given, or is the checkpoint itself, with which the
            state of the training would be lost.
    """
    out = Path(out_file)
    if out.is_dir():
        raise UsageError(
            f'{out_file} is a folder: name a file in it, such as {out / "student.pth"}.'
        )
    if out.exists() and not force:
        raise UsageError(
            f'{out_file} exists already: name another file, or replace it with --force.'
        )
    if out.exists() and Path(checkpoint_file).exists() and out.samefile(checkpoint_file):
        raise UsageError(
            f'{out_file} is the checkpoint itself, which holds more than the student: name another file.'
        )


def _with_metadata(state: OrderedDict[str, Tensor], metadata: Any) -> OrderedDict[str, Tensor]:
    if metadata is not None:
        state._metadata = metadata  # type: ignore[attr-defined]  # where torch itself keeps it
    return state
