"""mmengine's own checkpoints cannot be loaded on torch >= 2.6, and downloads are loaded unsafely.

``torch.load`` takes only plain data by default since 2.6 (``weights_only=True``), because a
pickle can otherwise run any code. What mmengine writes holds a few things more: log histories,
numpy numbers and arrays. Those are allow-listed here, each behind a function that takes nothing
but what mmengine writes, and everything else stays refused, with a sentence. Downloads are not
restricted upstream: ``torch.hub`` still loads with ``weights_only=False``, and so does mmengine for
``https://``, ``torchvision://`` and ``open-mmlab://``; here they are checked in the same way. Plain
text can be code, too: when a run is resumed, mmengine executes ``meta['config']``, which is dropped.

On torch < 2.6 nothing is changed: files load, and no setting there is safe with a hostile one,
since its ``weights_only=True`` can be circumvented (CVE-2025-32434).
"""

from __future__ import annotations

import functools
import os
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn
from urllib.error import HTTPError, URLError

import numpy as np
import torch

from ..errors import CheckpointError, DamagedCheckpointError, UnsafeCheckpointError
from ._patch import Patch, is_installed


def load_checkpoint_file(
    filename: str | os.PathLike[str], map_location: Any = 'cpu'
) -> dict[str, Any]:
    """Loads a checkpoint from a file, a URL or a name mmengine knows, without running its code.

    Args:
        filename: A path, an ``https://`` address, ``torchvision://resnet50``, ``open-mmlab://...``.
        map_location: Where tensors go, as for ``torch.load``.

    Note:
        On torch < 2.6 mmengine's loaders are used as they are, which check nothing.

    Returns:
        What the file holds: mmengine's dict (``state_dict``, ``meta``, ...) or a bare state dict.

    Raises:
        FileNotFoundError: If a local file does not exist.
        UnsafeCheckpointError: If the file holds anything but data that mmengine writes.
        DamagedCheckpointError: If the file is truncated, corrupt, or no checkpoint.
        CheckpointError: If a download fails.
    """
    from mmengine.runner import CheckpointLoader

    filename = os.fspath(filename)
    checkpoint = CheckpointLoader.load_checkpoint(filename, map_location, logger='silent')
    if not isinstance(checkpoint, dict):
        raise DamagedCheckpointError(
            f'{filename} is no checkpoint: it holds a {type(checkpoint).__name__}, but a dict was '
            'expected; give a file that the training or torch.save(model.state_dict(), ...) wrote.'
        )
    return checkpoint


# What a pickle of mmengine names, and what it gets.


def _refuse(name: str) -> NoReturn:
    raise pickle.UnpicklingError(f'GLOBAL {name} was not allowed.')


def _function_of_class(owner: Any, name: Any) -> Callable[..., Any]:
    """Stands in for ``getattr``, by which pickle protocol 2 stores functions defined in classes.

    Log histories hold those that compute their statistics, one-cycle schedules their annealing.
    """
    from mmengine.logging import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

    if not (
        (owner is HistoryBuffer and name in ('current', 'max', 'mean', 'min'))
        or (owner is OneCycleParamScheduler and name in ('_annealing_cos', '_annealing_linear'))
    ):
        _refuse('builtins.getattr')
    return getattr(owner, name)


def _number_dtype(code: str, align: bool = False, copy: bool = False) -> np.dtype[Any]:
    """Stands in for ``numpy.dtype``: numbers and booleans alone, in the byte order of this machine.

    It returns numpy's own instance, which ignores ``__setstate__``: a file cannot give a number the
    flags or fields of an object, which numpy would then follow as pointers.
    """
    if (
        not isinstance(code, str)
        or re.fullmatch(r'(b1|[iu][1248]|f(2|4|8|12|16)|c(8|16|24|32))', code) is None
    ):
        _refuse('numpy.dtype')
    return np.dtype(code)


def _new_array(subtype: type, shape: tuple[int, ...], code: bytes) -> np.ndarray[Any, Any]:
    """Stands in for numpy's ``_reconstruct``, which makes the empty array that data fill."""
    if subtype is not np.ndarray or tuple(shape) != (0,):
        _refuse('numpy._core.multiarray._reconstruct')
    return np.ndarray((0,), 'b')


def _no_bytes() -> bytes:
    """Stands in for ``bytes``, which pickle protocol 2 calls for the data of an empty array."""
    return b''


def _allowed() -> list[Any]:
    """All that mmengine writes besides what torch allows anyway, in the form torch wants it."""
    from mmengine.config import ConfigDict
    from mmengine.logging import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

    codes = '?' + np.typecodes['AllInteger'] + np.typecodes['AllFloat']
    number_types = {type(np.dtype(code)) for code in codes}
    scalar = np.float64(0).__reduce__()[0]
    allowed: list[Any] = [HistoryBuffer, OneCycleParamScheduler, ConfigDict, np.ndarray]
    allowed += [*number_types]
    allowed += [
        (_function_of_class, 'builtins.getattr'),
        (_no_bytes, 'builtins.bytes'),
        (_number_dtype, 'numpy.dtype'),
    ]
    for core in ('numpy.core', 'numpy._core'):  # the names of numpy 1.x and 2.x
        allowed += [
            (_new_array, f'{core}.multiarray._reconstruct'),
            (scalar, f'{core}.multiarray.scalar'),
        ]
    return allowed


# Errors that name the cause.


@contextmanager
def _explained(filename: str) -> Iterator[None]:
    """Turns what torch raises about a file into one sentence about that file."""
    try:
        yield
    except URLError as error:
        reason = error if isinstance(error, HTTPError) else error.reason
        raise CheckpointError(
            f'{filename} cannot be downloaded ({reason}): check the address and the network, or '
            'download it on another machine and give the path of the file.'
        ) from None
    except Exception as error:
        message = str(error)
        if isinstance(error, pickle.UnpicklingError) and (refused := _refused_name(message)):
            raise UnsafeCheckpointError(
                f'{filename} was not loaded, because it refers to {refused}, which is not among '
                'the data that mmengine writes and could run code: if you trust its source, save '
                "its 'state_dict' alone with the software that wrote it, and load that."
            ) from None
        if not _is_damage(error):
            raise
        raise DamagedCheckpointError(
            f'{filename} is truncated or corrupt, or it is no checkpoint: copy, download or write '
            'it again.'
        ) from None


def _refused_name(message: str) -> str | None:
    """The global that a file was refused for, as torch or a function above names it."""
    for pattern in (
        # a text that begins like a pickle, such as a config, has no such name
        r'(?m)GLOBAL ([\w.]+)(?: was | whose |$)',
        r'unrecognized function (.+)',
        r'allowlisted via `add_safe_globals`,? but got (.+)',
    ):
        if match := re.search(pattern, message):
            return match.group(1)
    return None


def _is_damage(error: Exception) -> bool:
    """Whether torch failed over the content of a file, and not over access, memory or a device."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.filename):
        return False
    if re.search('memory|CUDA|NVIDIA|deserialize object on|data location', str(error)):
        return False
    return _passed_through(error.__traceback__, torch.load.__module__)


def _passed_through(traceback: TracebackType | None, module: str) -> bool:
    while traceback is not None:
        if traceback.tb_frame.f_globals.get('__name__') == module:
            return True
        traceback = traceback.tb_next
    return False


# The patch.


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Takes the place of mmengine's loader of local files.

    Args:
        filename: The file.
        map_location: Where tensors go, as for ``torch.load``.

    Raises:
        FileNotFoundError: If the file does not exist.
    """
    filename = os.path.expanduser(filename)
    if not os.path.isfile(filename):
        raise FileNotFoundError(f'{filename} can not be found.')
    return torch.load(filename, map_location=map_location, weights_only=True)


def _guarded(loader: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(loader)  # mmengine logs the loader's name
    def load(filename: str, map_location: Any = None, *args: Any, **kwargs: Any) -> Any:
        with _explained(filename):
            return _without_code(loader(filename, map_location, *args, **kwargs))

    return load


def _without_code(checkpoint: Any) -> Any:
    """Takes out the text that ``Runner.resume`` would execute.

    Under that key mmcv 1.x kept the config, and mmengine reads it as Python to compare numbers of
    GPUs; its own files have ``cfg``, which nothing here reads as code.
    """
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    if isinstance(meta, dict):
        meta.pop('config', None)
    return checkpoint


def needed() -> bool:
    """Whether this torch refuses what mmengine writes."""
    version = tuple(int(part) for part in torch.__version__.split('.')[:2])
    if version < (2, 6) or not is_installed('mmengine'):
        return False
    from mmengine.runner import CheckpointLoader, checkpoint

    return checkpoint.load_from_local in CheckpointLoader._schemes.values()


def apply() -> None:
    """Allow-lists what mmengine writes, and puts the checks around mmengine's loaders."""
    from mmengine.runner import CheckpointLoader, checkpoint

    torch.serialization.add_safe_globals(_allowed())
    # Not a scheme of its own: the loaders of all names that end in a download call it.
    checkpoint.load_url = functools.partial(checkpoint.load_url, weights_only=True)
    for prefix, loader in list(CheckpointLoader._schemes.items()):
        if loader is checkpoint.load_from_local:
            loader = load_from_local
        CheckpointLoader.register_scheme(prefix, _guarded(loader), force=True)


PATCH = Patch(
    name='checkpoint',
    symptom='resuming or loading a checkpoint of mmengine: Weights only load failed',
    threads=(
        'open-mmlab/mmengine#1655',
        'open-mmlab/mmengine#1650',
        'pytorch/pytorch#98479',
    ),
    obsolete_when='a release of mmengine allow-lists what it writes, and loads downloads with '
    'weights_only=True',
    needed=needed,
    apply=apply,
)
