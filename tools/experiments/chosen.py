"""The settings that a grid of settings has found best, read from its committed results."""

from __future__ import annotations

from pathlib import Path

from dpk_mm.errors import UsageError

from .groups import TEACHER, group_results
from .intervals import spread
from .results import read_results

RESULTS = Path(__file__).resolve().parents[2] / 'configs' / 'experiments' / 'results'


def chosen_settings(
    grid: str, folder: Path = RESULTS, missing_ok: bool = False
) -> dict[str, float | str]:
    """Method -> the value of its one setting with the best mean on the validation images.

    Args:
        grid: Name of the grid of settings.
        folder: Where its ``<grid>.jsonl`` is.
        missing_ok: Whether nothing is chosen where there are no results yet.

    Raises:
        UsageError: If there are no results, unless ``missing_ok``: settings come before the decision, see ``PLAN.md``.
    """
    file = folder / f'{grid}.jsonl'
    if not file.is_file() and missing_ok:
        return {}
    if not file.is_file():
        raise UsageError(
            f'{file} is not there: run the grid {grid} to its end and copy its results.jsonl to that name; settings '
            'are not chosen by hand.'
        )
    best: dict[str, tuple[float, float | str]] = {}
    for group in group_results(read_results(file)):
        scores = group.scores('val')
        if group.method == TEACHER or not scores:
            continue
        (value,) = next(iter(group.runs.values()))['setting'].values()
        mean = spread(list(scores.values())).mean
        if group.method not in best or mean > best[group.method][0]:
            best[group.method] = (mean, value)
    return {method: value for method, (_, value) in best.items()}
