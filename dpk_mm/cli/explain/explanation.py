"""Finds what an error is about, and the sentence for it."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config

from ...errors import CheckpointError, UsageError, without_period
from .arguments import missing_arguments, unknown_argument
from .config_keys import keys_of_type
from .data_files import missing_dataset, missing_file
from .networks import swapped_checkpoint, unknown_module, value_of_distiller, wrong_channels
from .registered import arguments_of
from .traces import message_of, raised_on_purpose, raising_package
from .unknown_types import unknown_optimizer, unknown_type

_ARGUMENT = re.compile(r"([\w.<>]+)\(\) got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r'([\w.<>]+)\(\) missing \d+ required [\w-]+ arguments?: (.+)')
_TYPE = re.compile(r'(\S+) is not in the (\S+)::(.+?) registry')
_NO_FILE = re.compile(r"No such file or directory: '(.+)'")
_NO_DATA = re.compile(r'Cannot find (\w+) dataset in (.+?), you can specify `download')
_CHANNELS = re.compile(r'expected input\[[\d, ]+\] to have (\d+) channels, but got (\d+) channels')
_RECORDER = re.compile(r'"(\S+)" is not in the model')


@contextmanager
def explained_errors(cfg: Config) -> Iterator[dict[str, Any]]:
    """Turns errors that the config explains into a UsageError of one sentence.

    Args:
        cfg: The config that the block builds and runs.

    Yields:
        A dict, in which the block puts the Runner as ``runner`` once it is built.

    Raises:
        UsageError: For what :func:`explain` has a sentence for. Everything else is raised unchanged.
    """
    context: dict[str, Any] = {}
    try:
        yield context
    except Exception as error:
        sentence = explain(error, cfg, context.get('runner'))
        if sentence is None:
            raise
        raise UsageError(sentence) from error


def explain(error: Exception, cfg: Config, runner: Any = None) -> str | None:
    """What an error of building or training means for the config.

    Args:
        error: As it was raised.
        cfg: The config.
        runner: The Runner, if it could be built.

    Returns:
        One sentence, or None if the error is not one of the config.
    """
    text = message_of(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = without_period(error.strerror if error.filename else error)
        return f'{error.filename}: {reason}.' if error.filename else f'{reason}.'
    if isinstance(error, UsageError):
        return swapped_checkpoint(text, cfg, runner)
    if isinstance(error, CheckpointError):
        return None
    if match := _TYPE.search(text):
        return unknown_type(match[1].strip('\'"'), match[2], match[3], cfg)
    if match := _ARGUMENT.search(text):
        owner = _built_class(match[1], cfg, runner)
        return unknown_argument(owner, match[2], cfg) if owner else None
    if match := _MISSING.search(text):
        owner = _built_class(match[1], cfg, runner)
        return missing_arguments(owner, match[2], cfg) if owner else None
    if match := _NO_FILE.search(text):
        return missing_file(match[1], cfg)
    if match := _NO_DATA.search(text):
        return missing_dataset(match[1], match[2].rstrip('/'), cfg)
    if match := _RECORDER.search(text):
        return unknown_module(match[1], error, cfg)
    package = raising_package(error.__traceback__)
    if package == 'dpk_mm' and isinstance(error, (ValueError, TypeError)):
        # A check of ours says what is wrong with the config; an error that Python raised is a defect.
        return text if raised_on_purpose(error.__traceback__) else None
    if package == 'mmrazor' and isinstance(error, AssertionError) and text:
        return value_of_distiller(' '.join(text.split()), cfg)
    if _has_trained(runner):
        return None
    if match := _CHANNELS.search(text):
        return wrong_channels(match[1], match[2], error, runner)
    return unknown_optimizer(cfg)


def _built_class(called: str, cfg: Config, runner: Any) -> str | None:
    """The class that a config had built; None if the arguments of the call are not the config's.

    Args:
        called: What Python says was called: ``Class.__init__``, or ``function``.
        cfg: The config; a type of it may also be a function.
        runner: The Runner, if it could be built.
    """
    owner, _, function = called.rpartition('.')
    if function == '__init__':
        name = owner.rpartition('.')[2]
        # Before a step also the base of a class, which need not be registered.
        of_config = not _has_trained(runner)
    else:
        name, of_config = called, False
    return name if of_config or keys_of_type(name, cfg) or arguments_of(name) else None


def _has_trained(runner: Any) -> bool:
    """Whether a step was made; an error after it is not one of the config."""
    loop = getattr(runner, '_train_loop', None)
    return bool(getattr(loop, '_iter', 0))
