"""The student alone: its config, its weights, and a checkpoint that holds nothing else.

A distilled model is built from `cfg.model.architecture` (the student), a teacher and a distiller,
and its checkpoints hold `architecture.*` and `distiller.*`. What a user deploys is the student,
under the plain names (`backbone.*`, `neck.*`, ...) that mmdet and mmpretrain give it.
"""

from __future__ import annotations

import copy
import io
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from dpk_mm.compat.checkpoint import load_checkpoint_file
from dpk_mm.fileio import write_bytes_atomically

from .errors import UsageError

STUDENT_PREFIX = 'architecture.'
# What a distilled model may hold besides its student; mmrazor's own algorithms save the teacher.
TRAINING_PREFIXES = ('distiller.', 'teacher.', 'data_preprocessor.')

# The key of a full checkpoint's `meta` with the text of the student's config. It is written in
# training and only copied later: making it from `meta['cfg']` would mean to execute that text.
STUDENT_CONFIG = 'student_cfg'


# The config.


def is_distillation(cfg: Config) -> bool:
    """Whether `cfg.model` is an algorithm around a student, and not a plain model."""
    return 'architecture' in (cfg.get('model') or {})


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a wrapper for distributed runs."""
    return model.module if is_model_wrapper(model) else model


def student_config(cfg: Config) -> Config:
    """The config of the student alone, for testing, exporting and stock mmdet or mmpretrain.

    `model` becomes the student with the data preprocessor that the training used; hooks and loops
    that need the algorithm go; `custom_imports` loses `dpk_mm` where nothing of it is left in the
    config.

    Args:
        cfg: A config whose `model` is a distillation algorithm or a plain model.

    Returns:
        A new config; for a plain model an unchanged copy.

    Raises:
        UsageError: If there is no `model`, or its student is not given as a dict.
    """
    cfg = copy.deepcopy(cfg)
    model = cfg.get('model')
    if not isinstance(model, dict):
        raise UsageError(
            f'{cfg.filename or "the config"} has no model: a config with `model = dict(...)` was '
            'expected'
        )
    if not is_distillation(cfg):
        return cfg

    student = model.architecture
    if not isinstance(student, dict):
        raise UsageError(
            f'model.architecture is a {type(student).__name__}, but the config of the student, a '
            'dict, was expected'
        )
    if 'cfg_path' in student and 'type' not in student:
        student = _model_of_package(student)
    student.setdefault('_scope_', model.get('_scope_', cfg.get('default_scope', 'mmengine')))
    # In training the algorithm's own preprocessor goes before the student's, and the Runner gives
    # it the one that stands at the top of the config.
    preprocessor = model.get('data_preprocessor') or cfg.get('data_preprocessor')
    if preprocessor is not None:
        student.data_preprocessor = preprocessor
    cfg.model = student

    if cfg.get('custom_hooks'):
        cfg.custom_hooks = [hook for hook in cfg.custom_hooks if not _needs_algorithm(hook)]
    for name in ('val_cfg', 'test_cfg'):
        loop = cfg.get(name) or {}
        if 'Distill' in str(loop.get('type', '')):  # mmrazor's loops evaluate the teacher as well
            cfg[name] = {key: loop[key] for key in ('fp16',) if key in loop}
    _drop_own_import(cfg)
    return cfg


def _model_of_package(architecture: ConfigDict) -> ConfigDict:
    """The model that mmengine's `get_model` builds from `dict(cfg_path='mmdet::...')`."""
    package = architecture.cfg_path.split('::')[0]
    cfg = get_config(architecture.cfg_path)
    model = cfg.model
    if 'data_preprocessor' in cfg:
        model.data_preprocessor = cfg.data_preprocessor
    for key, value in architecture.items():
        if key not in ('cfg_path', 'pretrained', '_scope_'):
            model.setdefault(key, value)  # not an update: `get_model` takes them as defaults
    model._scope_ = package
    return model


def _needs_algorithm(hook: Any) -> bool:
    """Whether a hook is one of dpk_mm or mmrazor, all of which look into the algorithm."""
    from mmrazor.registry import HOOKS

    kind = hook.get('type') if isinstance(hook, dict) else type(hook)
    if isinstance(kind, str):
        kind = HOOKS.get(kind)
    return getattr(kind, '__module__', '').split('.')[0] in ('dpk_mm', 'mmrazor')


def _drop_own_import(cfg: Config) -> None:
    """Takes `dpk_mm` out of `custom_imports`: the config then loads where it is not installed."""
    imports = (cfg.get('custom_imports') or {}).get('imports', [])
    imports = [imports] if isinstance(imports, str) else imports
    rest = {key: value for key, value in cfg.items() if key != 'custom_imports'}
    # all of dpk_mm is registered with mmrazor, so what is left of it can only be named by that
    if 'dpk_mm' not in imports or 'mmrazor' in repr(rest):
        return
    others = [name for name in imports if name != 'dpk_mm']
    if others:
        cfg.custom_imports.imports = others
    else:
        cfg.pop('custom_imports')


# The weights.


def student_state_dict(checkpoint: Mapping[str, Any]) -> OrderedDict[str, Tensor]:
    """The student's weights under their plain names.

    Args:
        checkpoint: A loaded checkpoint or a bare state dict, of a distilled model (`architecture.*`
            beside `distiller.*`, and `teacher.*` in files of mmrazor) or of the student alone
            (plain names).

    Returns:
        A new dict; only a leading `architecture.` is taken off. The tensors are not copied.

    Raises:
        UsageError: If the checkpoint is neither of the two.
    """
    state = checkpoint.get('state_dict', checkpoint)
    if not isinstance(state, Mapping) or not state:
        raise UsageError(
            "the checkpoint holds no weights: a dict with a 'state_dict' or a bare state dict was "
            'expected'
        )
    strange = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise UsageError(
            f'the checkpoint holds no weights: {strange[0]!r} is a '
            f'{type(state[strange[0]]).__name__}, but a tensor was expected; a checkpoint of '
            "mmengine has its weights under 'state_dict'"
        )

    if not any(name.startswith(STUDENT_PREFIX) for name in state):
        if any(name.startswith('distiller.') for name in state) or all(
            name.startswith(TRAINING_PREFIXES) for name in state
        ):
            raise UsageError(
                f'the checkpoint holds no student: it has {_some(state)}, but {STUDENT_PREFIX}* '
                'beside distiller.*, or the plain names of the student alone, were expected; give '
                'a file that the training wrote'
            )
        return _with_metadata(OrderedDict(state), getattr(state, '_metadata', None))

    foreign = [n for n in state if not n.startswith((STUDENT_PREFIX, *TRAINING_PREFIXES))]
    if foreign:
        raise UsageError(
            f'the checkpoint mixes {STUDENT_PREFIX}* with {_some(foreign)}, so which of them is '
            'the student is not clear: give a file that the training wrote, or one with the names '
            'of the student alone'
        )
    weights = OrderedDict(
        (name[len(STUDENT_PREFIX) :], value)
        for name, value in state.items()
        if name.startswith(STUDENT_PREFIX)
    )
    metadata = getattr(state, '_metadata', None)
    if metadata is not None:
        # versions of the modules, by which `load_state_dict` converts older layouts
        metadata = OrderedDict(
            ((name + '.')[len(STUDENT_PREFIX) : -1], value)
            for name, value in metadata.items()
            if (name + '.').startswith(STUDENT_PREFIX)
        )
    return _with_metadata(weights, metadata)


def read_student(
    filename: str | os.PathLike[str],
) -> tuple[OrderedDict[str, Tensor], dict[str, Any]]:
    """Reads the student of a checkpoint file.

    Args:
        filename: A full or a student-only checkpoint: a file, or a URL.

    Returns:
        Its weights under plain names, and the checkpoint's `meta` (empty for a bare state dict). In
        `meta`, `cfg` is the student's own config where the file has it, and goes where the file
        only has the distillation config, which would make stock tools build the teacher.

    Raises:
        UsageError: If the checkpoint has no student.
        FileNotFoundError: If the file is not there.
        CheckpointError: If the file cannot be read.
    """
    checkpoint = load_checkpoint_file(filename, map_location='cpu')
    try:
        weights = student_state_dict(checkpoint)
    except UsageError as error:
        raise UsageError(f'{os.fspath(filename)}: {error}') from None
    meta = dict(checkpoint.get('meta') or {}) if 'state_dict' in checkpoint else {}
    own_config = meta.pop(STUDENT_CONFIG, None)
    if any(name.startswith(STUDENT_PREFIX) for name in checkpoint.get('state_dict', checkpoint)):
        meta.pop('cfg', None)
        if own_config is not None:
            meta['cfg'] = own_config
    return weights, meta


def load_student(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Loads weights into a student, and does not let any be missing silently.

    Args:
        model: The student.
        weights: Its state dict, as :func:`student_state_dict` returns it.
        source: The name of the file, for the message.

    Raises:
        UsageError: If a weight is missing, left over or of another shape. Counters of batches
            (`num_batches_tracked`) do not count, since files of old releases lack them.
    """
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        lines = [line.strip().rstrip('.') for line in str(error).splitlines()[1:]] or [str(error)]
        raise UsageError(
            f'{source} does not fit the student of the config, {type(model).__name__}: '
            f'{_some(lines, quote=False)}; give the config that the checkpoint was trained with'
        ) from None
    trouble = [
        f'{kind} {_some(names)}'
        for kind, names in (
            ('it lacks', [n for n in missing if not n.endswith('num_batches_tracked')]),
            ('it has besides', [n for n in unexpected if not n.endswith('num_batches_tracked')]),
        )
        if names
    ]
    if trouble:
        raise UsageError(
            f'{source} does not fit the student of the config, {type(model).__name__}: '
            f'{", and ".join(trouble)}; give the config that the checkpoint was trained with'
        )


# The file.


def save_student(
    path: str | os.PathLike[str], weights: Mapping[str, Tensor], meta: Mapping[str, Any]
) -> None:
    """Writes a student-only checkpoint, whole or not at all.

    Args:
        path: The file; its folder is made if need be.
        weights: The student's state dict under plain names.
        meta: What stands beside it: `dataset_meta`, `cfg`, `epoch`, ...

    Raises:
        DiskFullError: If there is no space left; an older file of that name stays as it was.
    """
    state = OrderedDict((name, value.cpu()) for name, value in weights.items())
    state = _with_metadata(state, getattr(weights, '_metadata', None))
    # In memory first: torch tells a full disk by an error that does not say so.
    buffer = io.BytesIO()
    torch.save(dict(meta=dict(meta), state_dict=state), buffer)
    write_bytes_atomically(path, buffer.getbuffer())


def export_student(
    checkpoint_file: str | os.PathLike[str], out_file: str | os.PathLike[str], force: bool = False
) -> list[str]:
    """Writes the student of a checkpoint alone, for stock mmdet or mmpretrain.

    The new file holds `state_dict` (plain names) and `meta` as :func:`read_student` gives it, with
    `dataset_meta` (classes, colours).

    Args:
        checkpoint_file: A full or a student-only checkpoint.
        out_file: The file to write.
        force: Whether to replace `out_file` if it is there.

    Returns:
        The names of the weights written.

    Raises:
        UsageError: If `out_file` is there and `force` is not given, or the checkpoint has no
            student.
        FileNotFoundError: If `checkpoint_file` is not there.
        CheckpointError: If `checkpoint_file` cannot be read.
    """
    if Path(out_file).exists() and not force:
        raise UsageError(
            f'{out_file} is there already: name another file, or replace it with --force'
        )
    weights, meta = read_student(checkpoint_file)
    save_student(out_file, weights, meta)
    return list(weights)


def _with_metadata(state: OrderedDict[str, Tensor], metadata: Any) -> OrderedDict[str, Tensor]:
    if metadata is not None:
        state._metadata = metadata  # type: ignore[attr-defined]  # where torch itself keeps it
    return state


def _some(names: Iterable[str], quote: bool = True) -> str:
    """The first three names, and how many more there are."""
    names = list(names)
    shown = ', '.join(f"'{name}'" if quote else name for name in names[:3])
    return shown if len(names) <= 3 else f'{shown} and {len(names) - 3} more'
