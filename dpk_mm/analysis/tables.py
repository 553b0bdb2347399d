"""Results as a table on the console, in Markdown and in JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from ..fileio import write_json_atomically, write_text_atomically

_MISSING = '-'


@dataclass(frozen=True)
class Result:
    """One trained model.

    Attributes:
        name: Its name in the table.
        mAP: COCO box mAP at IoU 0.50:0.95, in [0, 1]; None if not evaluated.
        AP50: COCO box AP at IoU 0.50, in [0, 1]; None if not evaluated.
        parameters: Number of the detector's parameters, teacher and distillation modules excluded.
        train_seconds: Wall-clock time of its training.
    """

    name: str
    mAP: float | None = None  # noqa: N815  the field's own name
    AP50: float | None = None  # noqa: N815
    parameters: int | None = None
    train_seconds: float | None = None


def rows(
    results: Sequence[Result], baseline: str | None = None
) -> tuple[list[str], list[list[str]]]:
    """Formats results as text cells.

    Args:
        results: In the order of the rows.
        baseline: Name of the result the others are compared with: adds a column with the
            difference in mAP points (hundredths), with sign. None, or a name that is not there or
            has no mAP, adds none.

    Returns:
        The header and one list of cells per result; '-' for what is missing.
    """
    base = next((r.mAP for r in results if r.name == baseline), None)
    header = ['model', 'mAP', 'AP50', 'parameters', 'training']
    if base is not None:
        header.insert(2, f'points vs. {baseline}')
    body = []
    for result in results:
        cells = [
            result.name,
            _fraction(result.mAP),
            _fraction(result.AP50),
            _MISSING if result.parameters is None else f'{result.parameters / 1e6:.2f} M',
            format_duration(result.train_seconds),
        ]
        if base is not None:
            shown = result.name != baseline and result.mAP is not None
            cells.insert(2, f'{100 * (result.mAP - base):+.1f}' if shown else _MISSING)
        body.append(cells)
    return header, body


def _fraction(value: float | None) -> str:
    return _MISSING if value is None else f'{value:.3f}'


def format_duration(seconds: float | None) -> str:
    """Formats seconds as ``45 s``, ``3 min 20 s`` or ``2 h 05 min``; '-' for None."""
    if seconds is None:
        return _MISSING
    whole = round(seconds)
    if whole < 60:
        return f'{whole} s'
    if whole < 3600:
        return f'{whole // 60} min {whole % 60:02d} s'
    return f'{whole // 3600} h {whole % 3600 // 60:02d} min'


def to_markdown(results: Sequence[Result], baseline: str | None = None) -> str:
    """A Markdown table of the results, numbers aligned to the right; see :func:`rows`."""
    header, body = rows(results, baseline)
    rule = ['---'] + ['---:'] * (len(header) - 1)
    lines = [header, rule, *[[cell.replace('|', r'\|') for cell in line] for line in body]]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines) + '\n'


def print_table(
    results: Sequence[Result], console: Console, baseline: str | None = None, title: str = ''
) -> None:
    """Prints the results as a table; see :func:`rows`."""
    header, body = rows(results, baseline)
    table = Table(title=title or None)
    if header[2].startswith('points'):
        # the long heading does not fit 80 columns, and numbers would be cut off
        table.caption = f'points: 100 x mAP{header[2].removeprefix("points")}'
        header[2] = 'points'
    for index, name in enumerate(header):
        table.add_column(name, justify='left' if index == 0 else 'right', no_wrap=True)
    for line in body:
        table.add_row(*line)
    console.print(table)


def write_results(
    results: Sequence[Result],
    stem: str | os.PathLike[str],
    baseline: str | None = None,
    title: str = '',
    about: dict[str, Any] | None = None,
    note: str = '',
) -> None:
    """Writes ``<stem>.json`` and ``<stem>.md``.

    Args:
        results: In the order of the rows.
        stem: Path without suffix.
        baseline: See :func:`rows`.
        title: Heading of the Markdown file.
        about: What else the JSON file holds beside ``results`` (device, seed, ...).
        note: Text below the Markdown table.
    """
    content = dict(about or {}, results=[asdict(result) for result in results])
    write_json_atomically(f'{os.fspath(stem)}.json', content)
    parts = [f'# {title}\n'] if title else []
    parts.append(to_markdown(results, baseline))
    if note:
        parts.append(f'{note}\n')
    write_text_atomically(f'{os.fspath(stem)}.md', '\n'.join(parts))
