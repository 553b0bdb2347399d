"""Mask ratio and CKA by epoch for several trainings, such as one student with several teachers (Fig. 7 and 8)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..errors import UsageError
from .loading import PathLike
from .training_curves import MASK_RATIO_PREFIX, SIMILARITY_PREFIX, Scalars, line_style


def epoch_means(scalars: Scalars, prefix: str) -> dict[str, list[float | None]]:
    """Means over the logged iterations of each epoch, without values that are not finite.

    Args:
        scalars: Of a training.
        prefix: Of the names, such as ``'mask_ratio/'``.

    Returns:
        Rest of the name -> one value per epoch, rounded to four digits; None where nothing was
        logged.
    """
    epochs = [int(record['epoch']) for record in scalars.train if 'epoch' in record]
    means: dict[str, list[float | None]] = {}
    for key in scalars.names():
        if not key.startswith(prefix):
            continue
        values: list[list[float]] = [[] for _ in range(max(epochs, default=0))]
        for record in scalars.train:
            if 'epoch' in record and np.isfinite(record.get(key, np.nan)):
                values[int(record['epoch']) - 1].append(record[key])
        means[key.removeprefix(prefix)] = [
            round(float(np.mean(v)), 4) if v else None for v in values
        ]
    return means


def plot_epochs(runs: Mapping[str, Scalars], path: PathLike, title: str = '') -> list[str]:
    """Draws CKA (upper row) and mask ratio (lower row) by epoch, a column for each stage, a line for each run.

    Args:
        runs: Name in the legend, such as the teacher's -> scalars.
        path: Image to write; the suffix chooses the format.
        title: Put above the figure.

    Returns:
        The stages.

    Raises:
        UsageError: If there is no run, or one logged no mask ratio of an epoch.
    """
    if not runs:
        raise UsageError('no run to draw: give at least one.')
    ratios, similarities = {}, {}
    for name, scalars in runs.items():
        ratios[name] = epoch_means(scalars, MASK_RATIO_PREFIX)
        similarities[name] = epoch_means(scalars, SIMILARITY_PREFIX)
        if not ratios[name]:
            raise UsageError(
                f"{name}: no record holds '{MASK_RATIO_PREFIX}<stage>'; the run was not trained with CKAMaskRatioHook "
                'or another mask-ratio hook.'
            )
        if not any(mean is not None for curve in ratios[name].values() for mean in curve):
            raise UsageError(
                f'{name}: no record of a mask ratio holds an epoch, as of a training by iterations: draw it with '
                'plot_curves.py mask_ratio.'
            )
    stages = list(dict.fromkeys(stage for curves in ratios.values() for stage in curves))
    figure = Figure(figsize=(2.5 + 3.6 * len(stages), 5.6), layout='constrained')
    axes = figure.subplots(2, len(stages), sharex=True, sharey='row', squeeze=False)
    for row, curves_of in enumerate((similarities, ratios)):
        for column, stage in enumerate(stages):
            axis = axes[row, column]
            for index, (name, curves) in enumerate(curves_of.items()):
                curve = np.array(curves.get(stage, []), np.float64)
                axis.plot(
                    np.arange(1, len(curve) + 1),
                    curve,
                    markersize=3,
                    label=name,
                    **line_style(index),
                )
            axis.grid(alpha=0.3)
            axis.spines[['top', 'right']].set_visible(False)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    for column, stage in enumerate(stages):
        axes[0, column].set_title(f'stage {stage}')
        axes[1, column].set_xlabel('epoch')
    axes[0, 0].set_ylabel('CKA of the features')
    axes[1, 0].set(ylabel='mask ratio (fraction of tokens)', ylim=(0, 1))
    axes[0, -1].legend(loc='upper left', bbox_to_anchor=(1.0, 1.0), frameon=False)
    if title:
        figure.suptitle(title)
    figure.supxlabel(
        'Means over the logged iterations of an epoch.', fontsize='small', color='0.35'
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return stages
