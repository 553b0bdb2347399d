"""Results put together that differ in the seed alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .intervals import spread
from .results import percent

TEACHER = 'teacher'
#: Beginning of a setting that says which student is trained, not how it was tuned, such as ``student width 4``.
STUDENT = 'student '
PART_NAMES = {'val': 'validation', 'test': 'held-out'}


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

    @property
    def student(self) -> str:
        """Which student it is, where its setting says that; '' where the grid has one."""
        return ', '.join(part for part in self.setting.split(', ') if part.startswith(STUDENT))

    def scores(self, part: str) -> dict[int, float]:
        """Seed -> score in percent, of the runs that have one."""
        return {
            seed: percent(run['metric'], run['scores'][part])
            for seed, run in self.runs.items()
            if run['scores'].get(part) is not None
        }

    def teacher_scores(self, part: str) -> list[float]:
        """Scores of the teachers of the runs, in percent; those of a teacher itself."""
        key = 'scores' if self.method == TEACHER else 'teacher_scores'
        return [
            percent(run['metric'], run[key][part])
            for run in self.runs.values()
            if (run.get(key) or {}).get(part) is not None
        ]


def group_results(results: Iterable[Mapping[str, Any]]) -> list[Group]:
    """Puts runs together that differ in the seed alone, in the order of their first result."""
    runs: dict[tuple[str, str, str], dict[int, Mapping[str, Any]]] = {}
    for result in results:
        teacher = result['label'] if result['method'] == TEACHER else result['teacher']
        setting = ', '.join(f'{key} {value}' for key, value in result['setting'].items())
        key = (result['method'], teacher or '', setting)
        runs.setdefault(key, {})[result['seed']] = result
    return [Group(*key, by_seed) for key, by_seed in runs.items()]


def find_reference(groups: Sequence[Group], group: Group, method: str) -> Group | None:
    """What a group is compared with: the method with the same student and teacher.

    A method without a teacher is compared with under every teacher. Of several settings of the method it is
    the one without a name, or else the best in validation: its own best, so that no method is
    compared with another one that was left untuned.
    """
    if group.method in (method, TEACHER):
        return None
    candidates = [
        g
        for g in groups
        if (g.method, g.student) == (method, group.student) and g.teacher in ('', group.teacher)
    ]
    best = best_settings(candidates)
    for candidate in candidates:
        if candidate.setting == candidate.student:
            return candidate
    return next((c for c in candidates if c.name in best), None)


def best_settings(groups: Sequence[Group]) -> set[str]:
    """Names of the groups that are the best of their method, student and teacher in validation.

    Only those with the most seeds are compared: a mean over fewer is one of other trainings.
    """
    best: dict[tuple[str, str, str], tuple[int, float, str]] = {}
    for group in groups:
        scores = group.scores('val')
        if scores and group.method != TEACHER:
            candidate = (len(scores), spread(list(scores.values())).mean, group.name)
            key = (group.method, group.student, group.teacher)
            best[key] = max(best.get(key, candidate), candidate, key=lambda found: found[:2])
    return {name for *_, name in best.values()}


def evaluated_parts(results: Sequence[Mapping[str, Any]]) -> list[str]:
    return [part for part in PART_NAMES if any(part in result['scores'] for result in results)]


def stages_of(groups: Sequence[Group]) -> list[str]:
    runs = [run for group in groups for run in group.runs.values()]
    return list(dict.fromkeys(stage for run in runs for stage in run.get('mask_ratio', ())))


def curves_of(group: Group, what: str, stage: str) -> list[list[float]]:
    """The whole curves of a group, cut to the shortest."""
    found = [run.get(what, {}).get(stage) for run in group.runs.values()]
    whole = [[float('nan') if v is None else v for v in curve] for curve in found if curve]
    shortest = min(map(len, whole), default=0)
    return [curve[:shortest] for curve in whole]
