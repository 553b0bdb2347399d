"""Plots of the results of a grid."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dpk_mm.analysis.training_curves import COLOURS

from .groups import PART_NAMES, TEACHER, curves_of, evaluated_parts, group_results, stages_of
from .intervals import Spread, spread

_MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')


def plot_student_against_teacher(
    results: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], title: str = ''
) -> bool:
    """Draws the students' scores against those of their teachers (Fig. 3 of the paper).

    One line per method and setting, mean and standard deviation over seeds; a method without a
    teacher is a horizontal line.

    Args:
        results: Of one grid.
        path: Image to write; the suffix chooses the format.
        title: Put above the figure.

    Returns:
        Whether it was drawn: there must be two teachers.
    """
    groups = [group for group in group_results(results) if group.method != TEACHER]
    part = evaluated_parts(results)[-1]
    lines: dict[str, list[tuple[float, Spread]]] = {}
    flat: dict[str, float] = {}
    for group in groups:
        scores = list(group.scores(part).values())
        if not scores:
            continue
        theirs = group.teacher_scores(part)
        name = ', '.join(filter(None, (group.method, group.setting)))
        if theirs:
            lines.setdefault(name, []).append((float(np.mean(theirs)), spread(scores)))
        else:
            flat[name] = spread(scores).mean
    if max(map(len, lines.values()), default=0) < 2:
        return False
    figure = Figure(figsize=(7.5, 5.0), layout='constrained')
    axis = figure.subplots()
    for index, (name, points) in enumerate(lines.items()):
        _draw_line(axis, index, name, points)
    for name, mean in flat.items():
        axis.axhline(mean, color='0.4', linestyle='--', label=name)
    metric = results[0]['metric']
    axis.set(xlabel=f"teacher's {metric} (percent)", ylabel=f"student's {metric} (percent)")
    axis.legend(loc='upper left', bbox_to_anchor=(1.0, 1.0), frameon=False)
    _finish(figure, [axis], path, title, 'Means over seeds; bars: one standard deviation.')
    return True


def _draw_line(axis: Any, index: int, name: str, points: list[tuple[float, Spread]]) -> None:
    """Means with their standard deviations, from left to right."""
    points.sort(key=lambda point: point[0])
    axis.errorbar(
        [x for x, _ in points],
        [found.mean for _, found in points],
        yerr=[found.deviation or 0.0 for _, found in points],
        color=COLOURS[index % len(COLOURS)],
        marker=_MARKERS[index % len(_MARKERS)],
        # once the colours begin again
        linestyle=('-', '--', ':')[index // len(COLOURS) % 3],
        fillstyle='none' if index // len(COLOURS) % 2 else 'full',
        capsize=3,
        label=name,
    )


def plot_curves(
    results: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], title: str = ''
) -> bool:
    """Draws mask ratio and similarity over the epochs (Fig. 7 and 8 of the paper).

    One column per stage, one line per teacher (and method and setting), mean over seeds with the
    range from the lowest to the highest.

    Args:
        results: Of one grid.
        path: Image to write; the suffix chooses the format.
        title: Put above the figure.

    Returns:
        Whether it was drawn: there must be a run whose ratio follows a similarity, and no more lines than colours.
    """
    groups = [
        g for g in group_results(results) if any(r.get('similarity') for r in g.runs.values())
    ]
    stages = stages_of(groups)
    if not stages or len(groups) > len(COLOURS):
        return False
    figure = Figure(figsize=(2.5 + 4.0 * len(stages), 6.5), layout='constrained')
    axes = figure.subplots(2, len(stages), sharex=True, squeeze=False)
    for row, what in enumerate(('mask_ratio', 'similarity')):
        for column, stage in enumerate(stages):
            axis = axes[row, column]
            for index, group in enumerate(groups):
                curves = np.array(curves_of(group, what, stage), np.float64)
                if not curves.size:
                    continue
                epochs = np.arange(1, curves.shape[1] + 1)
                colour = COLOURS[index % len(COLOURS)]
                axis.plot(epochs, curves.mean(0), '.-', color=colour, label=group.name)
                axis.fill_between(epochs, curves.min(0), curves.max(0), color=colour, alpha=0.2)
            if row == 0:
                axis.set(title=f'stage {stage}', ylim=(0, 1))
            else:
                axis.set(xlabel='epoch')
                axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0, 0].set_ylabel('mask ratio (fraction of tokens)')
    axes[1, 0].set_ylabel('similarity of the features (CKA)')
    axes[0, -1].legend(loc='upper left', bbox_to_anchor=(1.0, 1.0), frameon=False)
    note = 'Means over seeds; bands: from the lowest to the highest.'
    _finish(figure, list(axes.ravel()), path, title, note)
    return True


def plot_settings(
    results: Sequence[Mapping[str, Any]], path: str | os.PathLike[str], title: str = ''
) -> bool:
    """Draws the scores against the settings that are numbers, such as loss weights.

    One panel per setting, one line per method, mean and standard deviation over seeds. Runs that differ in several
    settings at once are left to the table.

    Args:
        results: Of one grid.
        path: Image to write; the suffix chooses the format.
        title: Put above the figure.

    Returns:
        Whether it was drawn: a method must have three values of one setting.
    """
    part = evaluated_parts(results)[-1]
    panels: dict[str, dict[str, list[tuple[float, Spread]]]] = {}
    for group in group_results(results):
        settings = next(iter(group.runs.values()))['setting']
        scores = list(group.scores(part).values())
        if len(settings) != 1 or not scores:
            continue
        ((key, value),) = settings.items()
        if isinstance(value, (int, float)) and value > 0:
            name = ', '.join(filter(None, (group.method, group.teacher)))
            panels.setdefault(key, {}).setdefault(name, []).append((value, spread(scores)))
    panels = {key: lines for key, lines in panels.items() if max(map(len, lines.values())) > 2}
    if not panels:
        return False
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    figure = Figure(figsize=(2.5 + 4.5 * len(panels), 4.5), layout='constrained')
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (key, lines) in zip(axes, panels.items(), strict=True):
        for name, points in lines.items():
            _draw_line(axis, names.index(name), name, points)
        axis.set(xlabel=key, xscale='log')
        values = sorted({x for points in lines.values() for x, _ in points})
        axis.set_xticks(values, [f'{x:g}' for x in values])
        axis.minorticks_off()
    axes[0].set_ylabel(f'{results[0]["metric"]} (percent)')
    handles = {
        label: handle
        for axis in axes
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    axes[-1].legend(
        list(handles.values()),
        list(handles),
        loc='upper left',
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
    )
    note = f'{PART_NAMES[part]} part; means over seeds, bars: one standard deviation.'
    _finish(figure, list(axes), path, title, note)
    return True


def _finish(
    figure: Figure, axes: Sequence[Any], path: str | os.PathLike[str], title: str, note: str
) -> None:
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.spines[['top', 'right']].set_visible(False)
    if title:
        figure.suptitle(title)
    figure.supxlabel(note, fontsize='small', color='0.35')
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
