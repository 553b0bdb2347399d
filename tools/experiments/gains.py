"""What a gain is made of: scores of the rows of a grid beside what was measured on each level in training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dpk_mm.analysis.training_curves import Scalars, load_scalars

from .groups import PART_NAMES, TEACHER, evaluated_parts, find_reference, group_results
from .intervals import paired_difference
from .tables import format_difference, format_spread, markdown

#: Key in the table's file -> beginning of the names in the log.
MEASURES = {
    'share': 'gradient_share/',
    'cosine': 'gradient_cosine/',
    'weight': 'gradient_weight/',
    'distance': 'feature_distance/',
    'hybrid': 'hybrid_error/',
}
PARTS = ('first', 'last')


def measures(scalars: Scalars, levels: Sequence[str] = ()) -> dict[str, dict[str, list[float]]]:
    """Means over the first and the last third of a training, by measure and level.

    Args:
        scalars: Of a training with ``LossGradientHook(by_level=True)``.
        levels: Names of the features of a neck by index, for losses that have none: ``feats[2]`` is ``levels[2]``.

    Returns:
        Measure -> level -> [mean over the first third of the iterations, over the last]. Of several losses on one level
        that of a ``DPKLoss`` counts, ``distill.dpk``, else the first by name. Values that are not finite are left out;
        NaN where no other is there. Empty where nothing was logged.
    """
    found: dict[str, dict[str, list[float]]] = {}
    last = max((record['iter'] for record in scalars.train), default=0)
    for measure, prefix in MEASURES.items():
        by_level: dict[str, tuple[str, str]] = {}
        for key in scalars.names():
            if key.startswith(prefix):
                loss, level = _split(key.removeprefix(prefix), levels)
                # without a level it is of the whole student
                if level and (level not in by_level or loss == 'dpk'):
                    by_level[level] = (loss, key)
        for level, (_, key) in by_level.items():
            iterations, values = scalars.series(key)
            finite = np.isfinite(values)  # as in epoch_means: one overflow is not a whole third
            iterations, values = iterations[finite], values[finite]
            thirds = [values[iterations <= last / 3], values[iterations > 2 * last / 3]]
            found.setdefault(measure, {})[level] = [
                float(np.mean(part)) if len(part) else float('nan') for part in thirds
            ]
    return found


def collect(
    results: Sequence[Mapping[str, Any]], folder: Path, levels: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """The results of a grid with the measures of their work folders.

    Args:
        results: Lines of a results file.
        folder: Of the grid, with a folder for each entry.
        levels: See :func:`measures`.

    Returns:
        The results, each with ``measures`` as far as its folder is there.
    """
    collected = []
    for result in results:
        work_dir = folder / result['entry']
        found = dict(result.get('measures') or {})
        if any(work_dir.glob('*/vis_data/scalars.json')):
            found = measures(load_scalars(work_dir), levels)
        collected.append({**result, 'measures': found})
    return collected


def gains_table(
    results: Sequence[Mapping[str, Any]], references: Sequence[str], confidence: float = 0.95
) -> str:
    """Markdown: a line for each row of the grid.

    Args:
        results: As :func:`collect` gives them.
        references: Methods to compare with; one without results gives no column.
        confidence: Of the intervals, in (0, 1).
    """
    groups = [group for group in group_results(results) if group.method != TEACHER]
    parts = evaluated_parts(results)
    references = [name for name in references if any(g.method == name for g in groups)]
    levels = sorted(
        {level for result in results for level in (result.get('measures') or {}).get('hybrid', ())}
    )
    columns = [
        (measure, level)
        for level in levels
        for measure in ('share', 'cosine', 'distance', 'hybrid')
    ]
    titles = dict(share='share', cosine='cosine', distance='S to T', hybrid='hybrid to T')
    with_teacher = len({group.teacher for group in groups if group.teacher}) > 1
    header = ['row', *(['teacher'] if with_teacher else []), 'n']
    header += [PART_NAMES[part] for part in parts]
    header += [f'minus {name} [{100 * confidence:g} %]' for name in references]
    header += [f'{level}: {titles[measure]}' for measure, level in columns]
    lines = [header, ['---', *['---:'] * (len(header) - 1)]]
    for group in groups:
        own = group.scores(parts[-1])
        cells = [', '.join(filter(None, (group.method, group.setting)))]
        cells += [group.teacher or '-'] if with_teacher else []
        cells.append(str(len(group.runs)))
        cells += [format_spread(group.scores(part)) for part in parts]
        for name in references:
            other = find_reference(groups, group, name)
            difference = None
            if other is not None:
                difference = paired_difference(own, other.scores(parts[-1]), confidence)
            cells.append(format_difference(difference, len(own)))
        for measure, level in columns:
            pairs = [
                run['measures'][measure][level]
                for run in group.runs.values()
                if level in (run.get('measures') or {}).get(measure, {})
            ]
            cells.append(_thirds(pairs))
        lines.append(cells)
    return markdown(lines)


LEGEND = (
    'share: norm of the gradient of the distillation on this level of the student over that of its own losses; '
    "cosine: of the two; S to T: squared error of the student's feature as a share of the teacher's variance; hybrid "
    'to T: the same of what the modules make of it. Each as the mean over the first and over the last third of the '
    'training, then over seeds.'
)


def _thirds(pairs: Sequence[Sequence[float]]) -> str:
    if not pairs:
        return '-'
    return ', '.join(f'{value:.3g}' for value in np.nanmean(np.array(pairs, float), axis=0))


def _split(name: str, levels: Sequence[str]) -> tuple[str, str]:
    """``distill.dpk.P4`` -> ('dpk', 'P4'); ``distill.dpk`` -> ('dpk', ''); ``P4`` -> ('', 'P4')."""
    loss = ''
    if name.startswith('distill.'):
        loss, _, name = name.removeprefix('distill.').partition('.')
    place = re.fullmatch(r'feats\[(\d+)\]', name)
    if place and int(place[1]) < len(levels):
        name = levels[int(place[1])]
    return loss, name
