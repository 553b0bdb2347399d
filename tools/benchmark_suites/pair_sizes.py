"""What the named sizes of DPK's modules cost on several pairs: one line for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .rows import Row
from .sizes import sizes


def pair_sizes(
    filenames: Sequence[str],
    rounds: int,
    done: Callable[[list[Row]], None] = lambda rows: None,
    **options: Any,
) -> list[Row]:
    """The suite ``sizes`` for each config; the name of the config stands before each case.

    Args:
        filenames: Configs with a ``DPKLoss``.
        rounds: Counted steps of each case.
        done: Gets all rows so far after each config, since many configs take long.
        **options: As of :func:`tools.benchmark_suites.sizes.sizes`.

    Returns:
        The rows of all configs. Ratios are against the floor of the same config.
    """
    rows: list[Row] = []
    for filename in filenames:
        name = pair_name(filename)
        for row in sizes(filename, rounds, **options):
            against = f'{name}: {row.against}' if row.against else ''
            rows.append(
                row._replace(suite='pair_sizes', case=f'{name}: {row.case}', against=against)
            )
        done(rows)
    return rows


def pair_name(filename: str) -> str:
    """The folder and the name of a config, such as ``cifar100/resnet56_resnet20``."""
    path = Path(filename)
    return f'{path.parent.name}/{path.stem}'


def pair_table(rows: Sequence[Row]) -> str:
    """A Markdown table with a line for each pair: its modules of all stages, large and small.

    Args:
        rows: What :func:`pair_sizes` gave.
    """
    lines = [
        '| pair | large: parameters | multiply-adds | step / floor '
        '| small: parameters | multiply-adds | step / floor |',
        '|---|--:|--:|--:|--:|--:|--:|',
    ]
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        pair, _, case = row.case.partition(': ')
        size = re.match(r'DPK (\w+), ', case)
        numbers = re.match(r'([\d.]+) M parameters, ([\d.]+) GFLOPs', row.note)
        if size and numbers:  # the last row of a size is that of all stages
            cells = [f'{numbers[1]} M', f'{numbers[2]} G', f'{row.ratio:.2f}']
            found.setdefault(pair, {})[size[1]] = cells
    for pair, by_size in found.items():
        lines.append('| ' + ' | '.join([pair, *by_size['large'], *by_size['small']]) + ' |')
    return '\n'.join(lines) + '\n'
