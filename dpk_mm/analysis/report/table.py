"""A table of the page: text in cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: What stands in a cell for which nothing is known.
NONE = '–'


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: Its heading, with the unit.
        numeric: Whether its cells are numbers, which stand to the right.
    """

    name: str
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row is its heading.

    Attributes:
        caption: What it shows.
        columns: Its columns.
        rows: A cell for each column.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]


def number(value: float) -> str:
    """A number with four significant digits."""
    return f'{float(value):.4g}'
