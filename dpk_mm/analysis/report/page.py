"""Puts the report page together: one HTML file without anything from elsewhere."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment
from mmengine.hooks import CheckpointHook

from ...errors import UsageError, did_you_mean
from ...fileio import write_text_atomically
from ...version import __version__
from ..metric_units import difference_unit, metric_unit, percent_factor, with_unit
from ..tables import format_duration
from .curves import draw_curves
from .examples import show_examples
from .runs import Run
from .table import NONE, Column, Table, number
from .template import TEMPLATE


def write_page(
    runs: Sequence[Run],
    path: str | os.PathLike[str],
    baseline: str | None = None,
    title: str | None = None,
) -> None:
    """Writes the page.

    Args:
        runs: In the order of the page.
        path: The file.
        baseline: Name of the run that the others are compared with.
        title: Of the page; by default made of the runs' names.

    Raises:
        UsageError: If there is no run, two have the same name, or no run is called as ``baseline``.
    """
    write_text_atomically(path, render_page(runs, baseline, title))


def render_page(runs: Sequence[Run], baseline: str | None = None, title: str | None = None) -> str:
    """The page as text, see :func:`write_page`."""
    names = [run.name for run in runs]
    if not runs:
        raise UsageError('No run for the report: give at least one work folder.')
    if len(set(names)) < len(names):
        raise UsageError(
            f'Two runs are called {next(n for n in names if names.count(n) > 1)}: write NAME=WORK_DIR.'
        )
    if baseline is not None and baseline not in names:
        raise UsageError(
            f'The baseline {baseline} is none of the runs{did_you_mean(baseline, names) or "."} They are '
            f'{", ".join(names)}.'
        )
    metric = _metric(runs)
    main = runs[-1].name if len(runs) <= 2 else f'{len(runs)} trainings'
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE).render(
        title=title or f'Training report: {main}',
        version=__version__,
        summary=_summary(runs, metric, baseline),
        alarms=[(run.name, text) for run in runs for text in run.record.get('alarms', ())],
        models=_models(runs, metric, baseline),
        points=bool(baseline and metric and metric_unit(metric) == '0 to 1'),
        all_metrics=_all_metrics(runs),
        charts=draw_curves(runs, metric),
        sections=[_section(run, len(runs)) for run in runs],
    )


def _metric(runs: Sequence[Run]) -> str | None:
    """The metric of the table: the one that chose the best student, or the first that was logged."""
    known = {name for run in runs for name in run.metric_names()}
    for run in (*reversed(runs), None):
        if run is not None and run.record.get('metric') in known:
            return run.record['metric']
    return next((name for run in reversed(runs) for name in run.metric_names()), None)


def _best(run: Run, metric: str) -> tuple[float, float] | None:
    """(when, value) of the best validation; None where what is better does not follow from the name."""
    values = run.metrics(metric)
    try:
        better = CheckpointHook(save_best=metric).is_better_than[metric]
    except ValueError:
        return None
    best = None
    for step, value in values:
        if math.isfinite(value) and (best is None or better(value, best[1])):
            best = (step, value)
    return best


def _last(run: Run, metric: str | None) -> float | None:
    values = run.metrics(metric) if metric else []
    return values[-1][1] if values else None


def _models(runs: Sequence[Run], metric: str | None, baseline: str | None) -> Table:
    """Teachers, then what the runs trained."""
    base = next((_last(run, metric) for run in runs if run.name == baseline), None)
    rows: list[list[str]] = []
    shown = [_identity(_own_model(run), _last(run, metric)) for run in runs if not run.distils]
    for run in runs:
        for model in run.record.get('models', ()):
            value = (model.get('metrics') or {}).get(metric)
            identity = _identity(model, value)
            # the teacher of several runs is shown once, and not beside its own training
            if model['role'] == 'teacher' and identity not in shown:
                shown.append(identity)
                name = 'teacher' if len(runs) <= 2 else f'teacher of {run.name}'
                rows.append(_cells(model, name, 'teacher', value, None, base, metric, None))
    for run in runs:
        model = _own_model(run)
        role = 'baseline' if run.name == baseline else model.get('role', 'model')
        if run.name == 'teacher' and not run.distils:
            role = 'teacher'
        name = role if len(runs) == 1 and role == 'student' else run.name
        best = _best(run, metric) if metric else None
        last = _last(run, metric)
        rows.append(_cells(model, name, role, last, best, base, metric, run))
    names = [
        *('model', 'role', with_unit(metric) if metric else 'metric', 'best'),
        *(
            f'against {baseline} ({difference_unit(metric or "")})',
            'parameters (million)',
            'speed (ms/image)',
            'training time',
        ),
    ]
    # a column in which nothing stands is left out
    kept = [
        i for i in range(len(names)) if any(row[i] != (row[0] if i == 1 else NONE) for row in rows)
    ]
    return Table(
        'Last and best validation of the run. Speed: one image at a time, with preprocessing and decoding, median of '
        'up to 10 images on the device of the run.',
        [Column(names[i], i > 1) for i in kept],
        [[row[i] for i in kept] for row in rows],
    )


def _identity(model: Mapping[str, Any], value: float | None) -> tuple[Any, ...]:
    """What the same model has in common wherever it was evaluated."""
    return model.get('parameters'), value and round(value, 3)


def _own_model(run: Run) -> dict[str, Any]:
    """The model that a run trained."""
    return next((m for m in run.record.get('models', ()) if m['role'] != 'teacher'), {})


def _cells(
    model: Mapping[str, Any],
    name: str,
    role: str,
    last: float | None,
    best: tuple[float, float] | None,
    base: float | None,
    metric: str | None,
    run: Run | None,
) -> list[str]:
    speed = model.get('speed')
    unit = 'iteration' if run is not None and not run.by_epoch else 'epoch'
    record = run.record if run is not None else {}
    return [
        name,
        role,
        NONE if last is None else number(last),
        NONE if best is None else f'{number(best[1])} ({unit} {best[0]:g})',
        NONE if role == 'baseline' else _difference(last, base, metric),
        NONE if model.get('parameters') is None else f'{model["parameters"] / 1e6:.3g}',
        f'{speed["milliseconds"]:.4g}' if speed else NONE,
        _time(record),
    ]


def _difference(value: float | None, base: float | None, metric: str | None) -> str:
    if value is None or base is None or metric is None:
        return NONE
    # hundredths of what lies between 0 and 1 are called points, as percents are
    difference = (value - base) * percent_factor(metric)
    return f'{difference:+.2f}' if metric_unit(metric) else f'{difference:+.4g}'


def _time(record: Mapping[str, Any]) -> str:
    if 'seconds' not in record:
        return NONE
    begun = record.get('first_iteration')
    return format_duration(record['seconds']) + (f' (from iteration {begun})' if begun else '')


def _summary(runs: Sequence[Run], metric: str | None, baseline: str | None) -> str:
    """One or two sentences on the last run."""
    run = runs[-1]
    last = _last(run, metric)
    if last is None or metric is None:
        return 'No validation was logged, so there is no metric.'
    name = 'student' if run.distils else 'model'
    whose = '' if run.name == name else f' of {run.name}'
    text = f'The {name}{whose} reached {number(last)} in {with_unit(metric)}'
    base = next((_last(r, metric) for r in runs if r.name == baseline and r is not run), None)
    if base is not None:
        points = ' points' if metric_unit(metric) else ''
        text += f', {_difference(last, base, metric)}{points} against the baseline'
    models = {model['role']: model for model in run.record.get('models', ())}
    teacher = models.get('teacher', {})
    value = (teacher.get('metrics') or {}).get(metric)
    if value is not None:
        text += f'; its teacher has {number(value)}'
    sizes = [models.get(role, {}).get('parameters') for role in ('student', 'teacher')]
    if all(sizes):
        text += f'. It has {sizes[0] / sizes[1]:.0%} of the parameters of the teacher'
    return f'{text}.'


def _all_metrics(runs: Sequence[Run]) -> Table | None:
    """Every metric of the last validation of every run, and of the teachers."""
    columns: dict[str, dict[str, float]] = {}
    for run in runs:
        for model in run.record.get('models', ()):
            if model['role'] == 'teacher' and model.get('metrics'):
                name = 'teacher' if len(runs) == 1 else f'teacher of {run.name}'
                columns[name] = model['metrics']
        found = {name: _last(run, name) for name in run.metric_names()}
        columns[run.name] = {name: value for name, value in found.items() if value is not None}
    names = dict.fromkeys(name for values in columns.values() for name in values)
    if not names:
        return None
    return Table(
        'All metrics of the last validation',
        [Column('metric', False), *(Column(name) for name in columns)],
        [
            [with_unit(n), *(number(v[n]) if n in v else NONE for v in columns.values())]
            for n in names
        ],
    )


def _section(run: Run, count: int) -> dict[str, Any]:
    """What is said of one run alone."""
    record = run.record
    rows = [['work folder', run.work_dir.as_posix()]]
    if 'iterations' in record:
        epochs = f'{record["epochs"]} epochs, ' if record.get('epochs') is not None else ''
        rows.append(['length', f'{epochs}{record["iterations"]} iterations'])
    if record.get('finished'):
        rows.append(['finished', record['finished']])
    for model in record.get('models', ()):
        if model.get('checkpoint'):
            rows.append(['teacher from', str(model['checkpoint'])])
    rows += [list(row) for row in record.get('environment', ())]
    texts = [Column(name, False) for name in ('what', 'value', 'why')]
    return dict(
        heading=run.name if count > 1 else 'This training',
        id=f'run-{"".join(c if c.isalnum() else "-" for c in run.name)}',
        complete='version' in record,
        examples=show_examples(record.get('examples')),
        missing=record.get('missing', ()),
        chosen=Table('What the config left open', texts, run.chosen) if run.chosen else None,
        command=record.get('command'),
        environment=Table('What it ran on and with', texts[:2], rows),
        config=run.config_text,
    )
