"""The table and the picture of a comparison of methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dpk_mm.analysis.tables import format_duration
from dpk_mm.analysis.training_curves import COLOURS
from dpk_mm.fileio import write_json_atomically, write_text_atomically

from .groups import PART_NAMES, TEACHER, Group, evaluated_parts, group_results
from .intervals import Difference, paired_difference
from .methods import METHODS
from .pages import provenance
from .results import write_results
from .tables import format_difference, format_spread, markdown

BASELINE = 'baseline'
#: What every method is compared with, where it was run: with its published weight.
REFERENCES = (BASELINE, 'kd', 'fgd')
FIRST_STAGE = 'first stage of'
_MISSING = '-'


def write_comparison(
    results: Sequence[Mapping[str, Any]],
    shares: Mapping[str, Mapping[str, Any] | None],
    out: Path,
    name: str,
    remark: str = '',
    same_data: bool = False,
) -> list[Path]:
    """Writes ``compare_<name>`` as Markdown, JSON and picture, and its raw lines.

    Args:
        results: Of the comparison.
        shares: What was measured of the gradients, by method.
        out: Folder, made if missing.
        name: Of the pair.
        remark: A sentence below the title.
        same_data: Whether validation and test data are the same images: one column shows both.

    Returns:
        The files.
    """
    rows = comparison_rows(results, shares)
    part = evaluated_parts(results)[-1]
    stem = out / f'compare_{name}'
    title = f'Methods on the pair {name}'
    out.mkdir(parents=True, exist_ok=True)
    files = [stem.with_suffix(suffix) for suffix in ('.md', '.json', '.jsonl')]
    picture = stem.with_suffix('.png')
    drawn = plot_comparison(rows, picture, title, PART_NAMES[part], str(results[0]['metric']))
    remark = f'{remark}\n\n' if remark else ''
    text = f'# {title}\n\n{remark}{comparison_table(rows, results, same_data)}\n{_notes(results, part)}\n'
    if drawn:
        text += f'\n![Differences to the baseline]({picture.name})\n'
        files.append(picture)
    write_text_atomically(files[0], f'{text}\n{provenance(results)}')
    write_json_atomically(files[1], rows)
    write_results(files[2], results)
    return files


def comparison_rows(
    results: Sequence[Mapping[str, Any]], shares: Mapping[str, Mapping[str, Any] | None]
) -> list[dict[str, Any]]:
    """One row for each method and weight, the published weights first.

    Differences are paired by seed, of the held-out part where there is one: to the baseline, and to KD
    (detectors: FGD) with its published weight.
    """
    groups = group_results(results)
    part = evaluated_parts(results)[-1]
    plain = {g.method: g for g in groups if g.setting in ('', 'weight published')}
    references = {name: plain[name] for name in REFERENCES if name in plain}
    rows = []
    for group in groups:
        if group.teacher.startswith(FIRST_STAGE) and group.method == TEACHER:
            continue  # what it scores says nothing of the method
        share = shares.get(group.method) or {}
        published = share.get('published', {})
        equal = group.setting == 'weight equal share'
        rows.append(
            dict(
                method=group.method,
                title=_title(group),
                weight=group.setting.removeprefix('weight '),
                weights=_weights(group),
                gradient=_gradient(published, equal),
                seeds=sorted(group.runs),
                scores={p: _by_seed(group, p) for p in PART_NAMES},
                **{
                    f'minus_{name}': _difference(group, reference, part)
                    for name, reference in references.items()
                },
                seconds=float(np.mean([run['seconds'] for run in group.runs.values()])),
            )
        )
    order = {TEACHER: 0, BASELINE: 1}
    rank = {'': 0, 'published': 1, 'equal share': 2}
    return sorted(rows, key=lambda row: (order.get(row['method'], 2), rank.get(row['weight'], 3)))


def _title(group: Group) -> str:
    if group.method == TEACHER:
        return group.teacher
    method = METHODS.get(group.method)
    return 'student alone' if method is None else method.title


def _by_seed(group: Group, part: str) -> dict[str, float]:
    return {str(seed): score for seed, score in sorted(group.scores(part).items())}


def _gradient(published: Mapping[str, float], equal: bool) -> float | None:
    """Norm of the distillation's gradient over that of the student's own losses, summed over the losses."""
    if not published:
        return None
    return 1.0 if equal else float(sum(published.values()))


def _weights(group: Group) -> dict[str, float]:
    """Weights of the losses that the options set, by loss."""
    options = next(iter(group.runs.values())).get('options') or {}
    ending = '.loss_weight'
    return {
        key.removesuffix(ending).rpartition('.')[2]: value
        for key, value in options.items()
        if '.distill_losses.' in key and key.endswith(ending)
    }


def _difference(group: Group, reference: Group, part: str) -> dict[str, Any] | None:
    if group is reference or group.method == TEACHER:
        return None
    found = paired_difference(group.scores(part), reference.scores(part))
    return None if found is None else dict(vars(found))


def comparison_table(
    rows: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
    same_data: bool = False,
) -> str:
    """The rows as a Markdown table, with the last part alone where all are the same images."""
    parts = evaluated_parts(results)[-1 if same_data else 0 :]
    references = [name for name in REFERENCES if f'minus_{name}' in rows[0]]
    header = ['method', 'weight', 'gradient', 'n', *(PART_NAMES[part] for part in parts)]
    header += [f'minus {name} [95 %]' for name in references] + ['time of a run']
    body = []
    for row in rows:
        gradient = row['gradient']
        cells = [row['title'], row['weight'] or _MISSING]
        cells.append(_MISSING if gradient is None else f'{gradient:.3g}')
        cells.append(str(len(row['seeds'])))
        cells += [format_spread(dict(enumerate(row['scores'][part].values()))) for part in parts]
        for name in references:
            found = row[f'minus_{name}']
            difference = None if found is None else Difference(**found)
            cells.append(format_difference(difference, len(row['scores'][parts[-1]])))
        body.append([*cells, format_duration(row['seconds'])])
    rule = ['---', '---', *['---:'] * (len(header) - 2)]
    return markdown([header, rule, *body])


def _notes(results: Sequence[Mapping[str, Any]], part: str) -> str:
    metric = results[0]['metric']
    return (
        f'{metric} in percent: mean ± standard deviation over n seeds. Differences are paired by seed, of the '
        f'{PART_NAMES[part]} part; in brackets the 95 % interval mean ± t s/√n (s: standard deviation of the '
        'differences, t: Student with n - 1 degrees of freedom). An interval that holds 0 shows no difference; of '
        'twenty that compare nothing but chance, one does not hold it.\n\n'
        '*Weight*: as published, or such that the gradient of the distillation on the student is as large as that of '
        "the student's own losses. *Gradient*: norm of the former over that of the latter, with the cross entropy's "
        'weight at 1, in the first batches of the training (geometric mean). First stages, assistants and '
        'early-stopped teachers are trained beside the budget of a student.'
    )


def plot_comparison(
    rows: Sequence[Mapping[str, Any]], path: Path, title: str, part: str, metric: str
) -> bool:
    """Draws the differences to the baseline with their intervals, one line for each method.

    Returns:
        Whether it was drawn: there must be a baseline and a method.
    """
    shown = [row for row in rows if row.get(f'minus_{BASELINE}')]
    if not shown:
        return False
    weights = list(dict.fromkeys(row['weight'] for row in shown))
    best = {row['title']: -np.inf for row in shown}
    for row in shown:
        best[row['title']] = max(best[row['title']], row[f'minus_{BASELINE}']['mean'])
    titles = sorted(best, key=lambda name: best[name])
    figure = Figure(figsize=(7.5, 1.5 + 0.3 * len(titles)), layout='constrained')
    axis = figure.subplots()
    for index, weight in enumerate(weights):
        chosen = [row for row in shown if row['weight'] == weight]
        found = [row[f'minus_{BASELINE}'] for row in chosen]
        means = [difference['mean'] for difference in found]
        halves = [0.0 if d['high'] is None else d['high'] - d['mean'] for d in found]
        shift = 0.15 * (index - (len(weights) - 1) / 2)
        places = [titles.index(row['title']) - shift for row in chosen]
        axis.errorbar(
            means, places, xerr=halves, fmt='o', capsize=2, color=COLOURS[index], label=weight
        )
    axis.axvline(0, color='0.4', linestyle='--')
    axis.set_yticks(range(len(titles)), titles)
    axis.set_xlabel(f'{metric}, {part}, minus the student alone (points); bars: 95 % interval')
    axis.grid(alpha=0.3)
    axis.spines[['top', 'right']].set_visible(False)
    axis.legend(title='weight', frameon=False, loc='lower right')
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
    return True
