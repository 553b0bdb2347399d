"""Errors that a user can correct: their classes, and the parts that their sentences have in common."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """A config, an option or a file is wrong; the message says how to correct it."""


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


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is most similar to a misspelled one; None if none is similar enough.

    Args:
        name: What was written.
        known: What could have been written.
        cutoff: Least similarity, from 0 (any name) to 1 (the name itself), see ``difflib``.
    """
    return next(iter(difflib.get_close_matches(name, [*known], n=1, cutoff=cutoff)), None)


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6, quote: bool = False) -> str:
    """``; did you mean X?`` for the nearest known name, or an empty string if there is none.

    Args:
        name: What was written.
        known: What could have been written.
        cutoff: Least similarity, see :func:`nearest`.
        quote: Whether the name stands in quotation marks.
    """
    close = nearest(name, known, cutoff)
    if close is None:
        return ''
    return f"; did you mean '{close}'?" if quote else f'; did you mean {close}?'


def without_period(error: object) -> str:
    """The sentence of an error without its period, for a sentence that goes on after it."""
    return str(error).removesuffix('.')
