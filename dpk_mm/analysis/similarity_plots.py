"""Heat maps of the similarities of student and teacher (Fig. 5, 9 and 10 of the paper)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..errors import UsageError
from .feature_similarity import StageSimilarity, check_finite
from .loading import PathLike


def ranked_grid(values: Sequence[float]) -> np.ndarray:
    """Puts values into a grid that is as square as can be, the largest first, row by row.

    Args:
        values: At least one.

    Returns:
        ``[rows, columns]``, float64; 400 values give 20 x 20. NaN where the last row is not full.
    """
    ranked = sorted(values, reverse=True)
    columns = math.ceil(math.sqrt(len(ranked)))
    rows = math.ceil(len(ranked) / columns)
    grid = np.full(rows * columns, np.nan)
    grid[: len(ranked)] = ranked
    return grid.reshape(rows, columns)


def plot_similarity(
    found: Sequence[StageSimilarity], path: PathLike, metric: str = 'cka', title: str = ''
) -> None:
    """Draws a heat map for each stage (rows) and student (columns), all with one scale of colours.

    Args:
        found: Of ``measure_similarity``.
        path: Image to write; the suffix chooses the format.
        metric: What the values are, for the label.
        title: Put above the figure.

    Raises:
        UsageError: If there is nothing to draw, or a value is not finite.
    """
    if not found:
        raise UsageError('no similarity to draw: measure at least one student.')
    check_finite(found)
    students = list(dict.fromkeys(item.student for item in found))
    stages = list(dict.fromkeys(item.stage for item in found))
    every = [value for item in found for value in item.values]
    figure = Figure(
        figsize=(1.2 + 2.4 * len(students), 0.8 + 2.5 * len(stages)), layout='constrained'
    )
    axes = figure.subplots(len(stages), len(students), squeeze=False)
    for item in found:
        axis = axes[stages.index(item.stage), students.index(item.student)]
        image = axis.imshow(
            ranked_grid(item.values),
            cmap='viridis',
            vmin=min(every),
            vmax=max(every) if max(every) > min(every) else min(every) + 1e-6,
            interpolation='nearest',
        )
        axis.set(xticks=[], yticks=[])
        axis.set_title(f'{item.student}\nmean {item.mean:.3f}', fontsize='medium')
        if axis.get_subplotspec().is_first_col():
            axis.set_ylabel(item.stage)
    label = {'cka': 'CKA', 'cosine': 'cosine'}.get(metric, metric)
    figure.colorbar(image, ax=axes, label=f'{label} of student and teacher', shrink=0.8)
    if title:
        figure.suptitle(title)
    note = f'{len(found[0].values)} batches, ranked: the largest first, row by row.'
    figure.supxlabel(note, fontsize='small', color='0.35')
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
