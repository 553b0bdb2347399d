"""What was chosen for a user, and why, for one table in the log and for comments in a written config."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: In the work folder of a training: its rows as JSON, for the report page.
CHOSEN_FILE = 'chosen.json'


class Row(NamedTuple):
    """One thing that was chosen.

    Attributes:
        what: The key in the completed config, such as ``'model.distiller.records.feats'``, or a word for several.
        value: What was chosen, as text.
        why: From what it follows, or that the config says so.
    """

    what: str
    value: str
    why: str


def table(rows: Iterable[Row]) -> str:
    """The rows as text in three columns, one line for each; an empty text for none."""
    rows = list(rows)
    if not rows:
        return ''
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return '\n'.join(f'{w:<{widths[0]}}  {v:<{widths[1]}}  {y}'.rstrip() for w, v, y in rows)
