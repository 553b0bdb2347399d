"""Which curves a report page has: losses, validation metric, mask ratio, similarity, gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ...engine.hooks.distill_alarm_hook import SHARE
from ..metric_units import with_unit
from ..training_curves import MASK_RATIO_PREFIX, SIMILARITY_PREFIX, Scalars, split_loss
from .charts import Chart, Series, draw_chart
from .runs import Run

_DISTILL = 'distill.'
_GRADIENT = 'gradient/'


def draw_curves(runs: Sequence[Run], metric: str | None) -> list[Chart]:
    """Draws all curves for which something was logged.

    Args:
        runs: In the order of the legends.
        metric: The metric of the validations that is drawn; None for none.

    Returns:
        The charts, in the order of the page.
    """
    single = len(runs) == 1
    charts = [
        _metric_chart(runs, metric) if metric else None,
        draw_chart(
            "The task's own loss",
            [Series('' if single else run.name, *_task_loss(run)) for run in runs],
            'loss (sum, no unit)',
            note='Without what the distillation adds, so that runs can be compared.',
        ),
        draw_chart(
            'Losses of the distillation',
            _named(runs, lambda s: _distill_losses(s, single)),
            'loss, weighted (no unit)',
            log=True,
        ),
        draw_chart(
            'Gradient share of the distillation',
            _named(runs, lambda s: {'': s.series(SHARE)}),
            'share of the gradient (ratio of norms)',
            log=True,
            levels={'a hundredth': 0.01, 'a hundred': 100.0} if _logged(runs, SHARE) else None,
            note="Norm of the distillation's gradient on the student over that of the student's own losses. From 1 to "
            '10 is a good start; below a hundredth nothing is learned from the teacher.',
        ),
        draw_chart(
            'Gradient share by feature',
            _named(runs, lambda s: _by_prefix(s, f'{SHARE}.')),
            'share of the gradient (ratio of norms)',
            log=True,
        ),
        draw_chart(
            'Gradient of each loss',
            _named(runs, lambda s: _by_prefix(s, _GRADIENT)),
            'norm of the gradient (L2)',
            log=True,
        ),
        draw_chart(
            'Mask ratio',
            _named(runs, lambda s: _by_prefix(s, MASK_RATIO_PREFIX)),
            'share of tokens that the teacher gives',
            limits=(0, 1),
            note='By stage.',
        ),
        draw_chart(
            'Similarity of student and teacher',
            _named(runs, lambda s: _by_prefix(s, SIMILARITY_PREFIX)),
            'similarity (at most 1)',
            limits=(None, 1),
            note='Of the features that are distilled, by stage.',
        ),
    ]
    return [chart for chart in charts if chart is not None]


def _task_loss(run: Run) -> tuple[np.ndarray, np.ndarray]:
    if 'loss' not in run.scalars.names():
        return np.empty(0), np.empty(0)
    return split_loss(run.scalars)[:2]


def _distill_losses(scalars: Scalars, single: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    if not single:  # their sum is enough beside other runs
        steps, _, distill = split_loss(scalars)
        return {'': (steps, distill)} if np.any(distill) else {}
    names = [n for n in scalars.names() if n.startswith(_DISTILL) and 'loss' in n]
    return {n.removeprefix(_DISTILL): scalars.series(n) for n in names}


def _by_prefix(scalars: Scalars, prefix: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    names = [name for name in scalars.names() if name.startswith(prefix)]
    return {name.removeprefix(prefix): scalars.series(name) for name in names}


def _named(
    runs: Sequence[Run], found: Callable[[Scalars], dict[str, tuple[np.ndarray, np.ndarray]]]
) -> list[Series]:
    """The lines of all runs, with the run's name where there are several."""
    series = []
    for run in runs:
        if 'loss' not in run.scalars.names():
            continue
        for name, (steps, values) in found(run.scalars).items():
            parts = [name] if len(runs) == 1 else [run.name, name]
            series.append(Series(': '.join(filter(None, parts)), steps, values))
    return series


def _logged(runs: Sequence[Run], name: str) -> bool:
    return any(name in run.scalars.names() for run in runs)


def _metric_chart(runs: Sequence[Run], metric: str) -> Chart | None:
    series, levels = [], {}
    by_epoch = all(run.by_epoch for run in runs)
    for run in runs:
        found = run.metrics(metric, iterations=not by_epoch)
        steps, values = np.array(found, np.float64).reshape(-1, 2).T
        name = run.name if len(runs) > 1 else 'student' if run.distils else 'model'
        series.append(Series(name, steps, values))
        for model in run.record.get('models', ()):
            value = (model.get('metrics') or {}).get(metric)
            if model['role'] == 'teacher' and value is not None and value not in levels.values():
                levels['teacher' if len(runs) == 1 else f'teacher of {run.name}'] = value
    return draw_chart(
        'Validation',
        series,
        with_unit(metric),
        xlabel='epoch' if by_epoch else 'training iteration',
        levels=levels,
    )
