"""Reading the repository's configs without the time that each reading takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from mmengine.config import Config, config

CONFIGS = Path(__file__).parents[2] / 'configs'
_read = Config.fromfile


@cache
def _once(path: Path) -> Config:
    return _read(path)


def _from_file(filename: str | Path, *args: Any, **kwargs: Any) -> Config:
    path = Path(filename).resolve()
    if args or kwargs or not path.is_relative_to(CONFIGS):
        return _read(filename, *args, **kwargs)
    return deepcopy(_once(path))


@contextmanager
def quick_reading() -> Iterator[None]:
    """``Config.fromfile`` reads each file of ``configs/`` once, and ``pretty_text`` is not laid out.

    Each call gives a copy of its own. The layout (yapf) takes a second for a detector and changes
    no value; the text can be read again as before.
    """
    with (
        mock.patch.object(Config, 'fromfile', staticmethod(_from_file)),
        mock.patch.object(config, 'FormatCode', lambda text, **kwargs: (text, True)),
    ):
        yield
