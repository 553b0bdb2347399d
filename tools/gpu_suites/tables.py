"""Markdown of what the parts have found; it needs no package but Python's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Key of a row -> heading and how a number is written.
COLUMNS: dict[str, tuple[str, str]] = {
    'case': ('case', '{}'),
    'seconds': ('median, ms', 'ms'),
    'least': ('least', 'ms'),
    'most': ('most', 'ms'),
    'ratio': ('ratio', '{:.2f}'),
    'peak_mib': ('peak, MiB', '{:.0f}'),
    'resident_mib': ('resident, MiB', '{:.0f}'),
    'first_call': ('first call, s', '{:.1f}'),
    'calls': ('calls', '{}'),
    'passed': ('passed', '{}'),
    'failed': ('failed', '{}'),
    'skipped': ('skipped', '{}'),
    'world': ('ranks', '{:.0f}'),
    'losses': ('losses', 'list'),
    'loss': ('loss', '{:.5g}'),
    'relative_difference': ('relative difference', '{:.1e}'),
    'scale': ('loss scale', '{:g}'),
    'count': ('count', '{}'),
    'target': ('target', '{}'),
    'epochs': ('epochs', '{}'),
    'seeds': ('runs', '{}'),
    'accuracy': ('top-1, %', '{:.2f}'),
    'deviation': ('standard deviation', '{:.2f}'),
    'training': ('training, s', '{:.0f}'),
    'error': ('error', '{}'),
}


def markdown(folder: str | Path, titles: Mapping[str, str]) -> str:
    """The tables of all parts that are there.

    Args:
        folder: Where their JSON is.
        titles: Name of a part -> heading, in order.
    """
    folder = Path(folder)
    lines: list[str] = []
    seen: list[Any] = []
    for name, title in titles.items():
        path = folder / f'{name}.json'
        if not path.is_file():
            continue
        content = json.loads(path.read_text(encoding='utf-8'))
        environment = content.get('environment')
        if environment and environment not in seen:
            seen.append(environment)
            lines += [', '.join(f'{key} {value}' for key, value in environment.items()) + '.', '']
        state = content.get('state', '')
        lines += [f'### {title}', '']
        if state != 'finished':
            lines += [f'This part is not whole: {state}.', '']
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in summarised(content['rows']):
            groups.setdefault(row.get('what', ''), []).append(row)
        for what, rows in groups.items():
            # what says only that something was set up is shown where it failed
            shown = [row for row in rows if row.get('case') != 'set up' or 'error' in row]
            if shown:
                lines += [f'**{what}**', '', *_table(shown), '']
    return '\n'.join(lines).rstrip() + '\n'


def summarised(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as they are, but runs of one case, which differ in their seed alone, as one row; failed ones stay apart."""
    out: list[dict[str, Any]] = []
    runs: dict[tuple[str, str], tuple[dict[str, Any], list[dict[str, Any]]]] = {}
    for row in rows:
        if 'seed' not in row or 'accuracy' not in row:
            out.append(row)
            continue
        key = (row['what'], row['case'])
        if key not in runs:
            whole = dict(what=row['what'], case=row['case'], epochs=row.get('epochs'))
            runs[key] = (whole, [])
            out.append(whole)
        runs[key][1].append(row)
    for row, found in runs.values():
        values = [run['accuracy'] for run in found]
        mean = sum(values) / len(values)
        row.update(seeds=len(values), accuracy=mean)
        row['training'] = sum(run['training'] for run in found) / len(found)
        if len(values) > 1:
            row['deviation'] = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    return out


def _table(rows: list[dict[str, Any]]) -> list[str]:
    used = [key for key in COLUMNS if any(row.get(key) not in (None, '') for row in rows)]
    lines = ['| ' + ' | '.join(COLUMNS[key][0] for key in used) + ' |']
    left = ('case', 'error', 'target')
    lines.append('|' + ''.join('---|' if key in left else '---:|' for key in used))
    return lines + ['| ' + ' | '.join(_cell(row, key) for key in used) + ' |' for row in rows]


def _cell(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        return ''
    form = COLUMNS[key][1]
    if form == 'ms':
        return f'{1000 * value:.1f}'
    if form == 'list':
        return ' '.join(f'{item:.4g}' for item in value)
    # a table has lines, and bars between its cells
    return form.format(value).replace('\n', ' ').replace('|', '\\|')[:200]
