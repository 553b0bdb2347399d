"""What ways to choose a teacher are worth, against the trainings of all pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..groups import TEACHER
from ..intervals import paired_difference, spread
from ..tables import format_difference, format_spread
from .verdict import kendall_tau, ranking

SIZE = 'backbone.base_channels'
#: What the students of the grid learn by.
METHOD = 'kd'


@dataclass(frozen=True)
class Truth:
    """The trainings of one student with all teachers.

    Attributes:
        student: What it is called.
        size: Of the student, in channels.
        scores: Teacher -> seed -> score on the held-out part.
        sizes: Teacher -> size in channels.
        teachers: Teacher -> its own score on the validation part.
        seconds: Time of all of these trainings, without those of the teachers.
    """

    student: str
    size: int
    scores: dict[str, dict[int, float]]
    sizes: dict[str, int]
    teachers: dict[str, float]
    seconds: float

    @property
    def means(self) -> dict[str, float]:
        """Teacher -> mean score of the students."""
        return {name: spread(list(runs.values())).mean for name, runs in self.scores.items()}

    def regret(self, teacher: str) -> float:
        """Points that the students of a teacher are below those of the best one."""
        return max(self.means.values()) - self.means[teacher]


@dataclass(frozen=True)
class Choice:
    """What one way to choose gave.

    Attributes:
        way: What it is called.
        teacher: What it chose; '' for the mean over all.
        regret: In points.
        cost: Share of the time of training all pairs.
    """

    way: str
    teacher: str
    regret: float
    cost: float


def read_truth(results: Sequence[Mapping[str, Any]]) -> list[Truth]:
    """The trainings of each student, from the results of the grid ``teacher_choice``."""
    teachers = {r['label']: r for r in results if r['method'] == TEACHER}
    by_student: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        if result['method'] == METHOD:
            student = ', '.join(f'{k} {v}' for k, v in result['setting'].items())
            by_student.setdefault(student, []).append(result)
    found = []
    for student, runs in by_student.items():
        scores: dict[str, dict[int, float]] = {}
        for run in runs:
            scores.setdefault(run['teacher'], {})[run['seed']] = run['scores']['test']
        found.append(
            Truth(
                student,
                int(runs[0]['options'][f'model.architecture.{SIZE}']),
                scores,
                {t: int(teachers[t]['options'][f'model.{SIZE}']) for t in scores},
                {t: teachers[t]['scores']['val'] for t in scores},
                sum(run['seconds'] for run in runs),
            )
        )
    return found


def next_size_up(truth: Truth) -> str:
    """The smallest teacher that is larger than the student; of equal ones the most accurate."""
    larger = {t: size for t, size in truth.sizes.items() if size > truth.size} or truth.sizes
    return min(larger, key=lambda t: (larger[t], -truth.teachers[t]))


def choices(truth: Truth, selection: Mapping[str, Any]) -> list[Choice]:
    """The ways to choose, against each other.

    Args:
        truth: Of one student.
        selection: What ``tools/select_teacher.py`` wrote for it.
    """
    accurate = max(truth.teachers, key=lambda t: truth.teachers[t])
    up = next_size_up(truth)
    regrets = [truth.regret(t) for t in truth.scores]
    found = [
        Choice('the most accurate', accurate, truth.regret(accurate), 0.0),
        Choice('the next size up', up, truth.regret(up), 0.0),
        Choice('random', '', sum(regrets) / len(regrets), 0.0),
    ]
    rounds = selection['rounds']
    before = selection['seconds'] - sum(r['seconds'] for r in rounds)
    spent = before
    for number, race in enumerate(rounds):
        spent += race['seconds']
        last = number == len(rounds) - 1
        best = ranking(race['scores'])[0]
        way = 'select_teacher.py' if last else f'the same, after round {number + 1}'
        found.append(Choice(way, best, truth.regret(best), spent / truth.seconds))
    return found


def agreement(truth: Truth, selection: Mapping[str, Any]) -> dict[str, float]:
    """Kendall's tau of what is known of the teachers before, with the true means of their students."""
    names = list(truth.scores)
    means = [truth.means[t] for t in names]
    looks = selection['passes']
    known = {
        'score of the teacher': [looks[t]['metrics'][selection['metric']] for t in names],
        'size of the teacher': [float(truth.sizes[t]) for t in names],
        'CKA with a brief student': [
            sum(looks[t]['cka'].values()) / len(looks[t]['cka']) for t in names
        ],
    }
    if all(looks[t]['calibration_error'] is not None for t in names):
        known['calibration error, smaller is better'] = [
            -looks[t]['calibration_error'] for t in names
        ]
    for race in selection['rounds']:
        if set(race['scores']) >= set(names):
            known[f'race, {race["fraction"]:g} of the schedule'] = [
                spread(list(race['scores'][t].values())).mean for t in names
            ]
    return {what: kendall_tau(values, means) for what, values in known.items()}


def report(truths: Sequence[Truth], selections: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: the truth, the choices, and the agreement.

    Args:
        truths: Of ``read_truth``; those without a selection are left out.
        selections: Student -> what ``tools/select_teacher.py`` wrote.
    """
    lines: list[str] = []
    for truth in truths:
        selection = selections.get(truth.student)
        if selection is None:
            continue
        order = ranking(truth.scores)
        lines += [f'## {truth.student}', '', "| teacher | its score | students' score | seeds |"]
        lines += ['| --- | ---: | ---: | ---: |']
        for teacher in order:
            runs = truth.scores[teacher]
            text = format_spread(runs)
            lines.append(f'| {teacher} | {truth.teachers[teacher]:.2f} | {text} | {len(runs)} |')
        difference = paired_difference(truth.scores[order[0]], truth.scores[order[1]])
        if difference is not None and difference.low is not None:
            lines += [
                '',
                f'{order[0]} minus {order[1]}: {format_difference(difference)}, paired by seed.',
            ]
        lines += ['', '| way to choose | teacher | regret in points | cost |']
        lines += ['| --- | --- | ---: | ---: |']
        for choice in choices(truth, selection):
            chosen = choice.teacher or 'the mean of all'
            lines.append(
                f'| {choice.way} | {chosen} | {choice.regret:.2f} | {100 * choice.cost:.0f} % |'
            )
        lines += ['', f'The tool: {selection["sentence"]}', '']
        lines += ["| known before | Kendall's tau with the truth |", '| --- | ---: |']
        lines += [f'| {what} | {tau:+.2f} |' for what, tau in agreement(truth, selection).items()]
        lines.append('')
    return '\n'.join(lines).rstrip() + '\n'
