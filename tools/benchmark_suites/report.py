"""Tables and JSON of the benchmark."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmengine
import torch
from rich.table import Table

from .rows import Row


def environment(device: str) -> dict[str, Any]:
    """What the figures depend on besides the code."""
    name = platform.processor() or platform.machine()
    if device.startswith('cuda'):
        name = torch.cuda.get_device_name()
    return dict(
        device=device,
        device_name=name,
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=torch.__version__,
        mmengine=mmengine.__version__,
    )


def write_json(rows: Sequence[Row], path: str | Path, **extra: Any) -> None:
    """Writes all rows, and what they depend on, to a file."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dict(extra, rows=[row._asdict() for row in rows]), indent=1)
    Path(path).write_text(text + '\n', encoding='utf-8')


def _seconds(value: float | None) -> str:
    if value is None:
        return ''
    return f'{value:.3f} s' if value >= 0.1 else f'{value * 1000:.2f} ms'


def _columns(row: Row) -> list[str]:
    quartiles = f'{_seconds(row.lower)} - {_seconds(row.upper)}' if row.lower is not None else ''
    return [
        row.case,
        _seconds(row.seconds),
        quartiles,
        '' if row.ratio is None else f'{row.ratio:.3f}',
        '' if row.peak_mib is None else f'{row.peak_mib:.0f}',
        '' if row.memory_ratio is None else f'{row.memory_ratio:.2f}',
        '' if row.count is None else str(row.count),
        row.target,
    ]


HEADINGS = ('case', 'median', 'quartiles', 'ratio', 'peak MiB', 'memory ratio', 'count', 'target')


def _filled(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells without the columns that are empty in all rows."""
    cells = [_columns(row) for row in rows]
    used = [i for i in range(len(HEADINGS)) if not i or any(line[i] for line in cells)]
    return [HEADINGS[i] for i in used], [[line[i] for i in used] for line in cells]


def table(suite: str, rows: Sequence[Row]) -> Table:
    """A table of one suite for the console."""
    against = sorted({row.against for row in rows if row.against})
    title = suite + (f' (ratios against: {"; ".join(against)})' if against else '')
    out = Table(title=title, title_justify='left')
    headings, cells = _filled(rows)
    for heading in headings:
        out.add_column(heading, justify='left' if heading in ('case', 'target') else 'right')
    for line in cells:
        out.add_row(*line)
    return out


def markdown(rows: Sequence[Row]) -> str:
    """The same as Markdown, one table for each suite."""
    parts = []
    for suite in dict.fromkeys(row.suite for row in rows):
        headings, cells = _filled([row for row in rows if row.suite == suite])
        lines = [f'**{suite}**', '', '| ' + ' | '.join(headings) + ' |']
        lines.append(
            '|' + ''.join('---|' if h in ('case', 'target') else '---:|' for h in headings)
        )
        lines += ['| ' + ' | '.join(line) + ' |' for line in cells]
        parts.append('\n'.join(lines))
    return '\n\n'.join(parts) + '\n'
