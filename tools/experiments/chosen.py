"""The settings that a grid of settings has found best, read from its committed results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    if missing_ok and not (folder / f'{grid}.jsonl').is_file():
        return {}
    best: dict[str, tuple[float, float | str]] = {}
    for group in group_results(_results_of(grid, folder)):
        scores = group.scores('val')
        if group.method == TEACHER or not scores:
            continue
        (value,) = next(iter(group.runs.values()))['setting'].values()
        mean = spread(list(scores.values())).mean
        if group.method not in best or mean > best[group.method][0]:
            best[group.method] = (mean, value)
    return {method: value for method, (_, value) in best.items()}


def best_form(
    grid: str, candidates: Sequence[str], paper: str = 'dpk', folder: Path = RESULTS
) -> str | None:
    """The candidate with the best mean on the validation images; None if it is not above the paper's form in each seed.

    Args:
        grid: Name of the grid in which they were tried.
        candidates: Methods in it.
        paper: The paper's form in it.
        folder: Where its ``<grid>.jsonl`` is.

    Raises:
        UsageError: If there are no results: the forms are tried before the decision, see ``PLAN.md``.
    """
    scores = {
        group.method: group.scores('val') for group in group_results(_results_of(grid, folder))
    }
    found = {name: scores[name] for name in candidates if scores.get(name)}
    if not found:
        return None
    best = max(found, key=lambda name: spread(list(found[name].values())).mean)
    theirs = scores.get(paper, {})
    seeds = found[best].keys() & theirs.keys()
    above = bool(seeds) and all(found[best][seed] > theirs[seed] for seed in seeds)
    return best if above else None


def _results_of(grid: str, folder: Path) -> list[dict[str, Any]]:
    file = folder / f'{grid}.jsonl'
    if not file.is_file():
        raise UsageError(
            f'{file} is not there: run the grid {grid} to its end and copy its results.jsonl to that name; settings '
            'are not chosen by hand.'
        )
    return read_results(file)
