"""The settings that a grid of settings has found best, read from its committed results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpk_mm.errors import UsageError

from .groups import TEACHER, Group, group_results
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
        UsageError: If there are no results, unless ``missing_ok``: settings come before the decision, see ``PLAN.md``;
            or if settings of a method have results of different seeds.
    """
    if missing_ok and not (folder / f'{grid}.jsonl').is_file():
        return {}
    groups: dict[str, list[Group]] = {}
    for group in group_results(_results_of(grid, folder)):
        if group.method != TEACHER and group.scores('val'):
            groups.setdefault(group.method, []).append(group)
    best = {}
    for method, of_method in groups.items():
        _check_seeds(grid, {group.name: group.scores('val') for group in of_method})
        found = max(of_method, key=lambda group: _mean(group.scores('val')))
        (best[method],) = next(iter(found.runs.values()))['setting'].values()
    return best


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
        UsageError: If there are no results: the forms are tried before the decision, see ``PLAN.md``; or if candidates
            and the paper's form have results of different seeds.
    """
    scores = {
        group.method: group.scores('val') for group in group_results(_results_of(grid, folder))
    }
    found = {name: scores[name] for name in candidates if scores.get(name)}
    if not found:
        return None
    theirs = scores.get(paper) or {}
    _check_seeds(grid, {paper: theirs, **found} if theirs else found)
    best = max(found, key=lambda name: _mean(found[name]))
    above = bool(theirs) and all(found[best][seed] > theirs[seed] for seed in theirs)
    return best if above else None


def _mean(scores: Mapping[int, float]) -> float:
    return spread(list(scores.values())).mean


def _check_seeds(grid: str, scores: Mapping[str, Mapping[int, float]]) -> None:
    """Means over different seeds are not compared: seeds differ more than settings do."""
    seeds = {seed for found in scores.values() for seed in found}
    for name, found in scores.items():
        missing = sorted(seeds - found.keys())
        if missing:
            raise UsageError(
                f'{grid}: {name} has no result of seed {", ".join(map(str, missing))}, which others that it is '
                'compared with have: run the grid to its end.'
            )


def _results_of(grid: str, folder: Path) -> list[dict[str, Any]]:
    file = folder / f'{grid}.jsonl'
    if not file.is_file():
        raise UsageError(
            f'{file} is not there: run the grid {grid} to its end and copy its results.jsonl to that name; settings '
            'are not chosen by hand.'
        )
    return read_results(file)
