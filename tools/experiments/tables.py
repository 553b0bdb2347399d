"""Markdown tables of the results of a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dpk_mm.analysis.tables import format_duration

from .groups import (
    PART_NAMES,
    TEACHER,
    best_settings,
    curves_of,
    evaluated_parts,
    find_reference,
    group_results,
    stages_of,
)
from .intervals import Difference, Spread, paired_difference, spread

_MISSING = '-'


def results_table(results: Sequence[Mapping[str, Any]], references: Sequence[str]) -> str:
    """Markdown table: one row per group, with paired differences to the references.

    Args:
        results: Of one grid.
        references: Methods to compare with; one without results gives no column.

    Returns:
        The table; differences are of the held-out part where there is one, else of the validation.
    """
    groups = group_results(results)
    parts = evaluated_parts(results)
    deciding = parts[-1]
    methods = {group.method for group in groups}
    references = [method for method in references if method in methods]
    with_setting = any(group.setting for group in groups)
    with_teacher = any(group.teacher for group in groups)
    header = ['method']
    header += ['setting'] if with_setting else []
    header += ['teacher', "teacher's score"] if with_teacher else []
    header += ['n', *(PART_NAMES[part] for part in parts)]
    header += [f'minus {method} [95 %]' for method in references]
    header += ['time of a run']
    left = 1 + with_setting + with_teacher
    best = best_settings(groups) if with_setting else set()
    body = []
    for group in groups:
        own = group.scores(deciding)
        cells = [group.method]
        cells += [group.setting or _MISSING] if with_setting else []
        if with_teacher:
            theirs = group.teacher_scores(deciding)
            shown = bool(theirs) and group.method != TEACHER
            cells += [group.teacher or _MISSING, f'{np.mean(theirs):.2f}' if shown else _MISSING]
        cells.append(str(len(group.runs)))
        for part in parts:
            text = format_spread(group.scores(part))
            cells.append(f'**{text}**' if part == 'val' and group.name in best else text)
        for method in references:
            other = find_reference(groups, group, method)
            difference = None if other is None else paired_difference(own, other.scores(deciding))
            cells.append(format_difference(difference, len(own)))
        cells.append(format_duration(float(np.mean([r['seconds'] for r in group.runs.values()]))))
        body.append(cells)
    rule = ['---'] * left + ['---:'] * (len(header) - left)
    return markdown([header, rule, *body])


def pairs_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown table of each method minus each other, over all teachers.

    Paired are runs of equal teacher and seed; a method without a teacher is paired with every teacher.

    Args:
        results: Of one grid.

    Returns:
        The table, differences of the last part; '' where there is nothing to pool: fewer than two methods with a
        teacher, a single teacher, or settings, which make several rows of a method.
    """
    groups = [group for group in group_results(results) if group.method != TEACHER]
    teachers = list(dict.fromkeys(group.teacher for group in groups if group.teacher))
    methods = list(dict.fromkeys(group.method for group in groups))
    distilled = {group.method for group in groups if group.teacher}
    if len(teachers) < 2 or len(distilled) < 2 or any(group.setting for group in groups):
        return ''
    part = evaluated_parts(results)[-1]
    scores: dict[str, dict[tuple[str, int], float]] = {method: {} for method in methods}
    for group in groups:
        for teacher in [group.teacher] if group.teacher else teachers:
            for seed, score in group.scores(part).items():
                scores[group.method][teacher, seed] = score
    body = []
    for row, method in enumerate(methods[1:], start=1):
        differences = [paired_difference(scores[method], scores[m]) for m in methods[:row]]
        cells = [format_difference(difference) for difference in differences]
        n = max((d.n for d in differences if d is not None), default=0)
        body.append([method, str(n), *cells, *[''] * (len(methods) - 1 - row)])
    header = ['over all teachers', 'pairs', *(f'minus {method}' for method in methods[:-1])]
    return markdown([header, ['---', *['---:'] * len(methods)], *body])


def teachers_table(results: Sequence[Mapping[str, Any]], confidence: float = 0.95) -> str:
    """Markdown table of each method under the best teacher minus itself under each other one, paired by seed.

    Args:
        results: Of one grid.
        confidence: Of the intervals, in (0, 1).

    Returns:
        The table, differences of the last part; '' if no method has students of two teachers, or where settings make
        several rows of a method.
    """
    groups = [group for group in group_results(results) if group.method != TEACHER]
    if any(group.setting for group in groups):
        return ''
    part = evaluated_parts(results)[-1]
    ranked: dict[str, float] = {}
    for group in groups:
        theirs = group.teacher_scores(part)
        if group.teacher and theirs:
            ranked[group.teacher] = float(np.mean(theirs))
    best, *others = sorted(ranked, key=lambda name: -ranked[name]) or ['']
    scores = {(group.method, group.teacher): group.scores(part) for group in groups}
    body = []
    for method in dict.fromkeys(group.method for group in groups):
        pairs = [(scores.get((method, best)), scores.get((method, other))) for other in others]
        found = [paired_difference(a, b, confidence) if a and b else None for a, b in pairs]
        if any(found):
            body.append([method, *map(format_difference, found)])
    if not body:
        return ''
    header = [f'under {best} ({ranked[best]:.2f}), minus under [{100 * confidence:g} %]']
    header += [f'{other} ({ranked[other]:.2f})' for other in others]
    return markdown([header, ['---', *['---:'] * len(others)], *body])


def curves_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown table of mask ratio and similarity in the first and the last epoch; '' if none."""
    header = ['method', 'teacher', 'stage']
    header += [
        f'{what}, {when}' for what in ('mask ratio', 'similarity') for when in ('first', 'last')
    ]
    body = []
    for group in group_results(results):
        for stage in stages_of([group]):
            cells = [', '.join(filter(None, (group.method, group.setting))), group.teacher, stage]
            for what in ('mask_ratio', 'similarity'):
                curves = curves_of(group, what, stage)
                for epoch in (0, -1):
                    values = {i: float(curve[epoch]) for i, curve in enumerate(curves)}
                    cells.append(format_spread(values, digits=3))
            body.append(cells)
    rule = ['---'] * 3 + ['---:'] * 4
    return markdown([header, rule, *body]) if body else ''


def format_spread(scores: Mapping[int, float], digits: int = 2) -> str:
    """Writes ``mean ± deviation``, without the deviation for a single value."""
    if not scores:
        return _MISSING
    found: Spread = spread(list(scores.values()))
    text = f'{found.mean:.{digits}f}'
    return text if found.deviation is None else f'{text} ± {found.deviation:.{digits}f}'


def format_difference(difference: Difference | None, n: int = 0) -> str:
    """Writes ``mean [low, high]`` with signs, and the number of pairs where it is below ``n``."""
    if difference is None:
        return _MISSING
    text = f'{difference.mean:+.2f}'
    if difference.low is not None:
        text += f' [{difference.low:+.2f}, {difference.high:+.2f}]'
    return f'{text} (n = {difference.n})' if difference.n < n else text


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Writes lines of cells as a table; the second line is the rule."""
    return ''.join(
        f'| {" | ".join(c.replace("|", chr(92) + "|") for c in line)} |\n' for line in lines
    )
