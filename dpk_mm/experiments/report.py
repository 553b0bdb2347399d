"""Tables and plots of the results of a grid."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dpk_mm.errors import UsageError

from ..analysis.tables import format_duration
from ..analysis.training_curves import COLOURS
from ..fileio import write_text_atomically
from .statistics import Difference, Spread, paired_difference, spread

TEACHER = 'teacher'
#: Methods that the others are compared with, where they are there.
BASELINES = ('alone', 'kd', 'fitnets', 'fgd')
PART_NAMES = {'val': 'validation', 'test': 'held-out'}
_MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')
_MISSING = '-'


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed.

    Attributes:
        method: Name of the method.
        teacher: Label of the teacher, that of itself for a teacher; '' without one.
        setting: What sets it apart from others of the method, as text; '' if nothing does.
        runs: Seed -> result.
    """

    method: str
    teacher: str
    setting: str
    runs: Mapping[int, Mapping[str, Any]]

    @property
    def name(self) -> str:
        """For legends."""
        return ', '.join(filter(None, (self.method, self.setting, self.teacher)))

    def scores(self, part: str) -> dict[int, float]:
        """Seed -> score in percent, of the runs that have one."""
        return {
            seed: _percent(run['metric'], run['scores'][part])
            for seed, run in self.runs.items()
            if run['scores'].get(part) is not None
        }

    def teacher_scores(self, part: str) -> list[float]:
        """Scores of the teachers of the runs, in percent; those of a teacher itself."""
        key = 'scores' if self.method == TEACHER else 'teacher_scores'
        return [
            _percent(run['metric'], run[key][part])
            for run in self.runs.values()
            if (run.get(key) or {}).get(part) is not None
        ]


def _percent(metric: str, value: float) -> float:
    # mmpretrain gives percent, mmdet fractions
    return 100 * value if metric.startswith('coco/') else value


def group_results(results: Iterable[Mapping[str, Any]]) -> list[Group]:
    """Puts runs together that differ in the seed alone, in the order of their first result."""
    runs: dict[tuple[str, str, str], dict[int, Mapping[str, Any]]] = {}
    for result in results:
        teacher = result['label'] if result['method'] == TEACHER else result['teacher']
        setting = ', '.join(f'{key} {value}' for key, value in result['setting'].items())
        key = (result['method'], teacher or '', setting)
        runs.setdefault(key, {})[result['seed']] = result
    return [Group(*key, by_seed) for key, by_seed in runs.items()]


def find_baseline(groups: Sequence[Group], group: Group, method: str) -> Group | None:
    """What a group is compared with: the method with the same teacher.

    A method without a teacher is a baseline of all teachers. Of several settings of the method it is
    the one without a name, or else the best in validation: its own best, so that no method is
    compared with another one that was left untuned.
    """
    if group.method in (method, TEACHER):
        return None
    candidates = [g for g in groups if g.method == method and g.teacher in ('', group.teacher)]
    best = _best_settings(candidates)
    for candidate in candidates:
        if not candidate.setting:
            return candidate
    return next((c for c in candidates if c.name in best), None)


def results_table(results: Sequence[Mapping[str, Any]], baselines: Sequence[str]) -> str:
    """Markdown table: one row per group, with paired differences to the baselines.

    Args:
        results: Of one grid.
        baselines: Methods to compare with; one without results gives no column.

    Returns:
        The table; differences are of the held-out part where there is one, else of the validation.
    """
    groups = group_results(results)
    parts = _parts(results)
    deciding = parts[-1]
    methods = {group.method for group in groups}
    baselines = [method for method in baselines if method in methods]
    with_setting = any(group.setting for group in groups)
    with_teacher = any(group.teacher for group in groups)
    header = ['method']
    header += ['setting'] if with_setting else []
    header += ['teacher', "teacher's score"] if with_teacher else []
    header += ['n', *(PART_NAMES[part] for part in parts)]
    header += [f'minus {method} [95 %]' for method in baselines]
    header += ['time of a run']
    left = 1 + with_setting + with_teacher
    best = _best_settings(groups) if with_setting else set()
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
        for method in baselines:
            other = find_baseline(groups, group, method)
            difference = None if other is None else paired_difference(own, other.scores(deciding))
            cells.append(format_difference(difference))
        cells.append(format_duration(float(np.mean([r['seconds'] for r in group.runs.values()]))))
        body.append(cells)
    rule = ['---'] * left + ['---:'] * (len(header) - left)
    return _markdown([header, rule, *body])


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
    part = _parts(results)[-1]
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
    return _markdown([header, ['---', *['---:'] * len(methods)], *body])


def _best_settings(groups: Sequence[Group]) -> set[str]:
    """Names of the groups that are the best of their method and teacher in validation."""
    best: dict[tuple[str, str], tuple[float, str]] = {}
    for group in groups:
        scores = group.scores('val')
        if scores and group.method != TEACHER:
            candidate = (spread(list(scores.values())).mean, group.name)
            key = (group.method, group.teacher)
            best[key] = max(best.get(key, candidate), candidate, key=lambda pair: pair[0])
    return {name for _, name in best.values()}


def curves_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown table of mask ratio and similarity in the first and the last epoch; '' if none."""
    header = ['method', 'teacher', 'stage']
    header += [
        f'{what}, {when}' for what in ('mask ratio', 'similarity') for when in ('first', 'last')
    ]
    body = []
    for group in group_results(results):
        for stage in _stages([group]):
            cells = [', '.join(filter(None, (group.method, group.setting))), group.teacher, stage]
            for what in ('mask_ratio', 'similarity'):
                curves = _curves(group, what, stage)
                for epoch in (0, -1):
                    values = {i: float(curve[epoch]) for i, curve in enumerate(curves)}
                    cells.append(format_spread(values, digits=3))
            body.append(cells)
    rule = ['---'] * 3 + ['---:'] * 4
    return _markdown([header, rule, *body]) if body else ''


def format_spread(scores: Mapping[int, float], digits: int = 2) -> str:
    """Writes `mean ± deviation`, without the deviation for a single value."""
    if not scores:
        return _MISSING
    found: Spread = spread(list(scores.values()))
    text = f'{found.mean:.{digits}f}'
    return text if found.deviation is None else f'{text} ± {found.deviation:.{digits}f}'


def format_difference(difference: Difference | None) -> str:
    """Writes `mean [low, high]` with signs."""
    if difference is None:
        return _MISSING
    text = f'{difference.mean:+.2f}'
    if difference.low is None:
        return text
    return f'{text} [{difference.low:+.2f}, {difference.high:+.2f}]'


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    return ''.join(
        f'| {" | ".join(c.replace("|", chr(92) + "|") for c in line)} |\n' for line in lines
    )


def _parts(results: Sequence[Mapping[str, Any]]) -> list[str]:
    return [part for part in PART_NAMES if any(part in result['scores'] for result in results)]


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
    part = _parts(results)[-1]
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
    stages = _stages(groups)
    if not stages or len(groups) > len(COLOURS):
        return False
    figure = Figure(figsize=(2.5 + 4.0 * len(stages), 6.5), layout='constrained')
    axes = figure.subplots(2, len(stages), sharex=True, squeeze=False)
    for row, what in enumerate(('mask_ratio', 'similarity')):
        for column, stage in enumerate(stages):
            axis = axes[row, column]
            for index, group in enumerate(groups):
                curves = np.array(_curves(group, what, stage), np.float64)
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
    part = _parts(results)[-1]
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


def _stages(groups: Sequence[Group]) -> list[str]:
    runs = [run for group in groups for run in group.runs.values()]
    return list(dict.fromkeys(stage for run in runs for stage in run.get('mask_ratio', ())))


def _curves(group: Group, what: str, stage: str) -> list[list[float]]:
    """The whole curves of a group, cut to the shortest."""
    found = [run.get(what, {}).get(stage) for run in group.runs.values()]
    whole = [[float('nan') if v is None else v for v in curve] for curve in found if curve]
    shortest = min(map(len, whole), default=0)
    return [curve[:shortest] for curve in whole]


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


def write_report(
    results: Sequence[Mapping[str, Any]],
    out: Path,
    baselines: Sequence[str] = BASELINES,
    title: str = '',
    readme: Path | None = None,
) -> list[Path]:
    """Writes tables and plots, `<grid>.md` and `<grid>_*.png`, for each grid in the results.

    Args:
        results: Of any number of grids.
        out: Folder, made if missing.
        baselines: Methods that the others are compared with.
        title: Heading; by default the grid's title as it was when it ran, else its name.
        readme: Markdown file that gets the tables and plots, too, between the lines `<!-- report GRID -->` and
            `<!-- end of report -->`; a grid without these lines is left out.

    Returns:
        The files.

    Raises:
        UsageError: If there is no result, or no place for any of them in `readme`.
    """
    if not results:
        raise UsageError('there is no result yet: run tools/experiments/run.py first')
    text = None if readme is None else readme.read_text(encoding='utf-8')
    before = text
    files = []
    for grid in dict.fromkeys(result['grid'] for result in results):
        of_grid = [result for result in results if result['grid'] == grid]
        heading = title or of_grid[-1].get('title') or grid
        pictures = []
        drawings = (
            ('teachers', plot_student_against_teacher),
            ('settings', plot_settings),
            ('curves', plot_curves),
        )
        for name, draw in drawings:
            picture = out / f'{grid}_{name}.png'
            if draw(of_grid, picture, heading):
                pictures.append(picture)
        page = out / f'{grid}.md'
        links = [picture.name for picture in pictures]
        write_text_atomically(page, f'# {heading}\n\n{report_body(of_grid, baselines, links)}')
        files += [page, *pictures]
        if readme is not None and text is not None and f'<!-- report {grid} -->' in text:
            links = [os.path.relpath(picture, readme.parent) for picture in pictures]
            text = insert_report(text, grid, report_body(of_grid, baselines, links))
            files += [readme] * (readme not in files)
    if readme is not None and text is not None:
        if readme not in files:
            raise UsageError(
                f"{readme} has no line '<!-- report {results[0]['grid']} -->' followed by "
                f"'<!-- end of report -->': write them where the tables belong"
            )
        if text != before:
            write_text_atomically(readme, text)
    return files


def insert_report(text: str, grid: str, body: str) -> str:
    """Puts a report between the two lines of a Markdown text that are there for it.

    Raises:
        UsageError: If the second line is missing.
    """
    head, begin, rest = text.partition(f'<!-- report {grid} -->\n')
    _, end, tail = rest.partition('<!-- end of report -->')
    if not end:
        raise UsageError(
            f"the line '<!-- report {grid} -->' is not followed by one '<!-- end of report -->'"
        )
    return f'{head}{begin}\n{body}\n{end}{tail}'


def report_body(
    results: Sequence[Mapping[str, Any]], baselines: Sequence[str], pictures: Sequence[str] = ()
) -> str:
    """Tables, explanation and pictures of one grid as Markdown, without a heading.

    Args:
        results: Of one grid.
        baselines: Methods that the others are compared with.
        pictures: Links to pictures.
    """
    parts = _parts(results)
    lines = [results_table(results, baselines)]
    metric = results[0]['metric']
    of = ' and '.join(f'{PART_NAMES[part]}' for part in parts)
    notes = [
        f'{metric} in percent on the {of} part: mean ± standard deviation over n seeds.',
        'Differences are paired by seed, of the last of these parts; in brackets the 95 % interval '
        'mean ± t s/√n (s: standard deviation of the differences, t: Student with n - 1 degrees of '
        'freedom). An interval that holds 0 shows no difference.',
    ]
    if any(result['setting'] for result in results) and 'val' in parts:
        notes.append('Bold: the best setting of a method, by validation.')
    lines += [' '.join(notes), '']
    pairs = pairs_table(results)
    if pairs:
        lines += [
            'Differences over all teachers, of pairs of equal teacher and seed, with the same interval. Runs of '
            'one seed share the first weights of the student, so that it is rather too narrow:',
            '',
            pairs,
        ]
    curves = curves_table(results)
    if curves:
        lines += ['Mask ratio and similarity, means over the first and the last epoch:', '', curves]
    for picture in pictures:
        lines += [f'![{Path(picture).stem}]({Path(picture).as_posix()})', '']
    lines += [_provenance(results)]
    return '\n'.join(lines)


def _provenance(results: Sequence[Mapping[str, Any]]) -> str:
    def values(key: str) -> str:
        return ', '.join(dict.fromkeys(str(result.get(key)) for result in results))

    total = format_duration(sum(result['seconds'] for result in results))
    return (
        f'{len(results)} runs on {values("device")}, {values("cores")} cores, {values("workers")} '
        f'at a time with {values("threads")} threads each, {total} together; torch '
        f'{values("torch")}, commit {values("commit")}.\n'
    )
