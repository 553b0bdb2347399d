"""Sentences on the networks: recorders, channels, and a teacher that is the student."""

from __future__ import annotations

import re
from typing import Any

from mmengine.config import Config
from torch import nn

from ...compat.checkpoint import load_checkpoint_file
from ...errors import CheckpointError, did_you_mean, without_period
from .config_keys import all_dicts, at_keys
from .traces import frames_of, raising_local


def unknown_module(name: str, error: Exception, cfg: Config) -> str:
    """On a recorder's module that the model, a variable of the code that raised, does not have."""
    where = at_keys(
        f'{path}.{key}' for path, node in all_dicts(cfg) for key in node if node.get(key) == name
    )
    model = raising_local(error.__traceback__, 'model')
    names = [n for n, _ in model.named_modules() if n] if isinstance(model, nn.Module) else []
    top = ', '.join(n for n in names if '.' not in n)
    hint = did_you_mean(name, names, cutoff=0.5) or f'; its parts are {top}.'
    return f'{where}the model has no module {name}{hint}'


def value_of_distiller(text: str, cfg: Config) -> str:
    """A sentence of mmrazor's about a name in quotation marks, after the keys that hold the name."""
    quoted = re.findall(r'"(.+?)"', text)
    keys = [
        f'{path}.{key}'
        for path, node in all_dicts(cfg)
        for key in node
        if path.startswith('model.distiller') and node[key] in quoted
    ]
    return f'{at_keys(keys or ["model.distiller"])}{without_period(text)}.'


def wrong_channels(expected: str, found: str, error: Exception, runner: Any) -> str | None:
    """On a convolution that gets a wrong number of channels, with its name in the model.

    Args:
        expected: Channels that the convolution has.
        found: Channels of its input.
        error: With the traceback, in which the modules are.
        runner: Has the model.

    Returns:
        The sentence; None if the module is not found.
    """
    model = getattr(runner, 'model', None)
    if not isinstance(model, nn.Module):
        return None
    names = {id(module): name for name, module in model.named_modules() if name}
    teacher = getattr(model, 'teacher', None)
    if isinstance(teacher, nn.Module):
        names |= {id(module): f'teacher.{name}' for name, module in teacher.named_modules()}
    inner = [names.get(id(frame.f_locals.get('self'))) for frame in frames_of(error.__traceback__)]
    path = next((name for name in reversed(inner) if name), None)
    if path is None:
        return None
    return (
        f'model.{path} is built for {expected} channels, but gets {found}: its in_channels in the '
        'config and the out_channels of what comes before it differ.'
    )


def swapped_checkpoint(text: str, cfg: Config, runner: Any) -> str | None:
    """On a teacher's checkpoint that does not fit the teacher, but does fit the student.

    Args:
        text: The error's sentence.
        cfg: Has the path of the checkpoint.
        runner: Has the student.

    Returns:
        The sentence with that addition; None if it is another error, or the student does not fit either.
    """
    student = getattr(getattr(runner, 'model', None), 'architecture', None)
    path = (cfg.get('model') or {}).get('teacher_ckpt')
    if 'does not fit the teacher' not in text or student is None or not path:
        return None
    try:
        found = load_checkpoint_file(path)
    except (CheckpointError, OSError):
        return None
    found = found.get('state_dict', found)
    shapes = {k: v.shape for k, v in student.state_dict().items()}
    if any(getattr(found.get(name), 'shape', None) != shape for name, shape in shapes.items()):
        return None
    return (
        f'{without_period(text)}; it does fit the student, model.architecture, so this is a checkpoint of '
        'the student, or the two are swapped in the config.'
    )
