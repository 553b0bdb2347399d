"""Errors that a user can mend: their classes, and the pieces of which their sentences are made."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """A config, an option or a file is not what it has to be; the message says what mends it."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be loaded; the message says which and what to do."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint holds something that could run code, and was not loaded."""


class DamagedCheckpointError(CheckpointError):
    """A file is no checkpoint, or a truncated or corrupt one."""


def first_few(names: Iterable[object], most: int = 3, quote: bool = False) -> str:
    """The first names of a list, and how many more there are: ``a, b, c and 4 more``.

    Args:
        names: What is listed.
        most: How many are named.
        quote: Whether each stands in quotation marks.
    """
    names = list(names)
    shown = ', '.join(f"'{name}'" if quote else str(name) for name in names[:most])
    return shown if len(names) <= most else f'{shown} and {len(names) - most} more'


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """``; did you mean X?`` for the known name that is nearest, or nothing if none is near.

    Args:
        name: What was written.
        known: What could have been written.
        cutoff: How near is near, from 0 (anything) to 1 (the name itself).
    """
    close = difflib.get_close_matches(name, [*known], n=1, cutoff=cutoff)
    return f'; did you mean {close[0]}?' if close else ''
