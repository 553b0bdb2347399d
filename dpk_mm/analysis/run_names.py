"""The trainings of a command line: ``[NAME=]WORK_DIR``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from ..errors import UsageError

Value = TypeVar('Value')


def split_name(text: str) -> tuple[str | None, str]:
    """Name and path of one training.

    Args:
        text: ``NAME=PATH`` or a path; what exists is a path, even with ``=`` in its name (``work_dirs/lr=0.1``).

    Returns:
        The name, None where there is none, and the path.
    """
    name, found, path = text.partition('=')
    if not found or Path(text).exists():
        return None, text
    return name, path


def by_name(pairs: Iterable[tuple[str, Value]], what: str) -> dict[str, Value]:
    """Name -> value.

    Args:
        pairs: Of names and values.
        what: What they are, in the plural.

    Raises:
        UsageError: If two have one name: the second would replace the first.
    """
    found: dict[str, Value] = {}
    for name, value in pairs:
        if name in found:
            raise UsageError(
                f'two {what} are called {name}, {found[name]} and {value}: give each a name of its own.'
            )
        found[name] = value
    return found


def named_runs(texts: Sequence[str]) -> dict[str, str]:
    """Name -> path of several trainings; one without a name is called as its path.

    Raises:
        UsageError: If two have one name: the second would replace the first.
    """
    runs: dict[str, str] = {}
    for text in texts:
        name, path = split_name(text)
        name = path if name is None else name
        if name in runs:
            raise UsageError(
                f'two runs are called {name}, {runs[name]} and {path}: write NAME=RUN, with a name for each.'
            )
        runs[name] = path
    return runs
