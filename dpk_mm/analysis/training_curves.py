"""Curves of a training: mask ratio and similarity per stage, and losses of several runs.

Reads what mmengine's ``LocalVisBackend`` writes: ``<work dir>/<timestamp>/vis_data/scalars.json``, one
JSON object per line. Draws with matplotlib's ``Figure`` alone, so no backend is chosen or changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from ..errors import UsageError

#: Okabe and Ito's colours, distinguishable with every common colour-vision deficiency.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
_MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')
_DASHES = ('-', '--', '-.', ':', (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))

MASK_RATIO_PREFIX = 'mask_ratio/'
SIMILARITY_PREFIX = 'similarity/'


@dataclass(frozen=True)
class Scalars:
    """The logged numbers of one training.

    Attributes:
        train: Records of training iterations, ordered by ``iter``.
        val: Records of validations, ordered by ``step``, an epoch or an iteration.
        log: Name of the folder in the work dir that the last of them were read from, a time of day; empty for a file.
    """

    train: list[dict[str, Any]]
    val: list[dict[str, Any]]
    log: str = ''

    def names(self) -> list[str]:
        """The names logged in training, sorted."""
        return sorted({key for record in self.train for key in record})

    def series(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Iterations and values ``[n]``, float64, of one name; empty if never logged."""
        pairs = [(record['iter'], record[key]) for record in self.train if key in record]
        array = np.array(pairs, dtype=np.float64).reshape(-1, 2)
        return array[:, 0], array[:, 1]


def load_scalars(path: str | os.PathLike[str]) -> Scalars:
    """Reads the scalars of a training.

    Args:
        path: A ``scalars.json``, or a work dir. mmengine starts a new folder each time a training is
            resumed; those of a work dir are joined, the later replacing what it repeats. Of a training that was begun
            anew in the folder, or resumed from further back, the old validations from there on are left out, too.

    Returns:
        The records, in order.

    Raises:
        FileNotFoundError: If there is no such file, or none in the folder.
        UsageError: If a line that is not the last of its file is no JSON object.
    """
    path = Path(path)
    files = sorted(path.glob('*/vis_data/scalars.json')) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        expected = path / '<timestamp>/vis_data/scalars.json' if path.is_dir() else path
        raise FileNotFoundError(
            f'{expected} does not exist: give the work dir of a training, or a scalars.json.'
        )
    train: list[dict[str, Any]] = []
    val: list[tuple[float, dict[str, Any]]] = []  # with the iteration that was logged before each
    for file in files:
        records = _read_lines(file)
        # Only records of training iterations hold 'iter'; those of a validation hold its 'step'.
        later = [r for r in records if 'iter' in r]
        if later:
            train = [r for r in train if r['iter'] < later[0]['iter']]
            val = [(reached, r) for reached, r in val if reached < later[0]['iter']]
        reached = train[-1]['iter'] if train else -1
        validations = []
        for record in records:
            if 'iter' in record:
                reached = record['iter']
            elif 'step' in record:
                validations.append((reached, record))
        if _is_stuck(validations):
            validations = [(reached, dict(r, step=reached)) for reached, r in validations]
        if validations:
            first = validations[0][1]['step']
            val = [(at, r) for at, r in val if r['step'] < first]
        train, val = train + later, val + validations
    log = files[-1].parents[1].name if path.is_dir() else ''
    return Scalars(train, [record for _, record in val], log)


def _is_stuck(validations: Sequence[tuple[float, dict[str, Any]]]) -> bool:
    """Whether the steps of validations stay while the training goes on.

    A training by iterations has no epochs, and mmengine's ``LoggerHook(log_metric_by_epoch=True)``, its default,
    writes epoch 0 for each.

    Args:
        validations: (iteration that was logged before it, record) of one file.
    """
    before = [(-1.0, 0.0), *((reached, record['step']) for reached, record in validations)]
    return any(
        later > earlier and after <= step
        for (earlier, step), (later, after) in zip(before, before[1:], strict=False)
    )


def _read_lines(file: Path) -> list[dict[str, Any]]:
    lines = file.read_text(encoding='utf-8').splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except ValueError:
            # The last line of a training that runs or was killed may be half written.
            if number < len(lines):
                raise UsageError(
                    f'{file}, line {number} is not a JSON object: expected a scalars.json as '
                    "mmengine's LocalVisBackend writes it."
                ) from None
    return records


def smooth(values: np.ndarray, weight: float) -> np.ndarray:
    """Exponential moving average without bias towards a start value.

    Value t is ``sum_i weight^(t-i) x_i / sum_i weight^(t-i)`` over all i <= t. One that is not finite is left out of
    the sums, or a single NaN would end the line; it stays as it is, a gap.

    Args:
        values: ``[n]``.
        weight: In [0, 1); 0 returns the values themselves.

    Returns:
        ``[n]``, float64.

    Raises:
        UsageError: If ``weight`` is outside [0, 1).
    """
    if not 0 <= weight < 1:
        raise UsageError(f'The smoothing weight must be in [0, 1), got {weight}.')
    out = np.empty(len(values), np.float64)
    total = norm = 0.0
    for i, value in enumerate(values):
        finite = bool(np.isfinite(value))
        total = weight * total + (float(value) if finite else 0.0)
        norm = weight * norm + finite
        out[i] = total / norm if finite else value
    return out


def split_loss(scalars: Scalars) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Separates the training loss into the task's own and the distillation's.

    mmrazor prefixes the student's own losses with ``student.``; what the total holds beyond them is
    distillation. In a plain training the whole loss is the task's.

    Args:
        scalars: The scalars of one training.

    Returns:
        Iterations, task loss and distillation loss, ``[n]`` each. The last is all zero for a plain
        training.

    Raises:
        UsageError: If no loss was logged.
    """
    steps, total = scalars.series('loss')
    if not len(steps):
        raise UsageError("No record holds 'loss': give the scalars of a training.")
    own = [key for key in scalars.names() if key.startswith('student.') and 'loss' in key]
    if not own:
        return steps, total, np.zeros_like(total)
    task = np.array([sum(r.get(key, 0.0) for key in own) for r in scalars.train if 'loss' in r])
    return steps, task, total - task


def plot_mask_ratio(
    scalars: Scalars, path: str | os.PathLike[str], smoothing: float = 0.6, title: str = ''
) -> None:
    """Draws mask ratio and similarity (CKA) of each distilled stage over the iterations.

    Args:
        scalars: The scalars of a training with a mask-ratio hook.
        path: Image to write; the suffix chooses the format.
        smoothing: Weight of the moving average, in [0, 1), see :func:`smooth`.
        title: Put above the figure.

    Raises:
        UsageError: If no mask ratio was logged.
    """
    stages = [
        key.removeprefix(MASK_RATIO_PREFIX)
        for key in scalars.names()
        if key.startswith(MASK_RATIO_PREFIX)
    ]
    if not stages:
        raise UsageError(
            f"No record holds '{MASK_RATIO_PREFIX}<stage>': the run was not trained with "
            'CKAMaskRatioHook or another mask-ratio hook.'
        )
    figure = Figure(figsize=(8.5, 6.0), layout='constrained')
    upper, lower = figure.subplots(2, 1, sharex=True)
    for index, stage in enumerate(stages):
        _draw(upper, *scalars.series(MASK_RATIO_PREFIX + stage), stage, index, smoothing)
        _draw(lower, *scalars.series(SIMILARITY_PREFIX + stage), stage, index, smoothing)
    upper.set(ylabel='mask ratio (fraction of tokens)', ylim=(0, 1))
    lower.set(ylabel='similarity of the features (CKA)', xlabel='training iteration')
    lower.set_ylim(min(0.0, lower.get_ylim()[0]), 1.0)
    _legend(upper, 'stage')
    _finish(figure, [upper, lower], path, smoothing, title)


def plot_losses(
    runs: Mapping[str, Scalars],
    path: str | os.PathLike[str],
    smoothing: float = 0.6,
    title: str = '',
) -> None:
    """Draws the training losses of several runs in one figure.

    The upper panel holds the task's own loss, comparable between runs; the lower one, present if
    any run distils, the distillation loss on a logarithmic scale.

    Args:
        runs: Name in the legend -> scalars.
        path: Image to write; the suffix chooses the format.
        smoothing: Weight of the moving average, in [0, 1), see :func:`smooth`.
        title: Put above the figure.

    Raises:
        UsageError: If there is no run, or one logged no loss.
    """
    if not runs:
        raise UsageError('No run to draw: give at least one.')
    for name, scalars in runs.items():
        if 'loss' not in scalars.names():
            raise UsageError(
                f"{name}: no record holds 'loss'; give a training that has logged some iterations."
            )
    losses = {name: split_loss(scalars) for name, scalars in runs.items()}
    distilled = any(np.any(distil != 0) for _, _, distil in losses.values())
    figure = Figure(figsize=(8.5, 6.5 if distilled else 4.0), layout='constrained')
    axes = figure.subplots(2 if distilled else 1, 1, sharex=True, squeeze=False)[:, 0]
    for index, (name, (steps, task, distil)) in enumerate(losses.items()):
        _draw(axes[0], steps, task, name, index, smoothing)
        if np.any(distil != 0):
            _draw(axes[1], steps, distil, name, index, smoothing)
    axes[0].set_ylabel("the task's own loss (sum, no unit)")
    # The first iterations have far larger losses than all others.
    axes[0].set_ylim(0, _upper_limit([task for _, task, _ in losses.values()]))
    _legend(axes[0], 'run')
    if distilled:
        axes[1].set(ylabel='distillation loss (sum, no unit)', yscale='log')
        # A range within one decade would else be labelled '4 x 10^0'.
        for formatter in (axes[1].yaxis.set_major_formatter, axes[1].yaxis.set_minor_formatter):
            formatter(StrMethodFormatter('{x:g}'))
    axes[-1].set_xlabel('training iteration')
    _finish(figure, list(axes), path, smoothing, title)


def _upper_limit(curves: Sequence[np.ndarray]) -> float:
    values = np.concatenate(curves)
    values = values[np.isfinite(values)]
    return 1.15 * float(np.percentile(values, 98)) if len(values) else 1.0


def line_style(index: int) -> dict[str, str]:
    """Looks of a line with markers; once the colours begin again, it is dashed, and the markers are empty.

    Args:
        index: Number of the line, from 0.

    Returns:
        Arguments of matplotlib's ``plot``, different for each of 21 lines.
    """
    turn, place = divmod(index, len(COLOURS))
    return {
        'color': COLOURS[place],
        'marker': _MARKERS[place],
        'linestyle': ('-', '--', ':')[turn % 3],
        'fillstyle': 'none' if turn % 2 else 'full',
    }


def _draw(
    axis: Any, steps: np.ndarray, values: np.ndarray, label: str, index: int, smoothing: float
) -> None:
    colour = COLOURS[index % len(COLOURS)]
    if smoothing:
        axis.plot(steps, values, '.', color=colour, alpha=0.25, markersize=4)
    axis.plot(
        steps,
        smooth(values, smoothing),
        color=colour,
        # one further once the colours begin again, or the eighth line would look as the first
        linestyle=_DASHES[(index + index // len(COLOURS)) % len(_DASHES)],
        linewidth=1.8,
        label=label,
    )


def _legend(axis: Any, title: str) -> None:
    # Beside the panel: curves fill all of it.
    axis.legend(title=title, loc='upper left', bbox_to_anchor=(1.0, 1.0), frameon=False)


def _finish(
    figure: Figure,
    axes: Sequence[Any],
    path: str | os.PathLike[str],
    smoothing: float,
    title: str,
) -> None:
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.spines[['top', 'right']].set_visible(False)
    if title:
        figure.suptitle(title)
    note = 'Values as logged.'
    if smoothing:
        note = f'Dots: as logged. Lines: exponential moving average of them, weight {smoothing:g}.'
    figure.supxlabel(note, fontsize='small', color='0.35')
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
