"""Which teacher won a race, or that the race cannot tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..intervals import Difference, paired_difference, spread

Scores = Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class Verdict:
    """What a race says.

    Attributes:
        best: The teacher with the highest mean in the last round.
        sure: Whether it is above each other one of that round with an interval that leaves out 0.
        differences: Other teacher of the last round -> the best minus this one, paired by seed.
        level: Those that cannot be told apart from the best.
    """

    best: str
    sure: bool
    differences: dict[str, Difference | None]
    level: list[str]

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if not self.differences:
            return f'{self.best}: only this teacher was left.'
        if self.sure:
            return f'{self.best} is the best teacher of this race.'
        others = ', '.join(self.level)
        return f'Cannot tell {self.best} from {others}: the interval of their difference holds 0, or there is none.'


def decide(scores: Scores, confidence: float = 0.95) -> Verdict:
    """Compares the teachers of the last round.

    Args:
        scores: Teacher -> seed -> score of the student.
        confidence: Of the intervals.

    Raises:
        ValueError: If no teacher has a score.
    """
    means = ranking(scores)
    if not means:
        raise ValueError('no teacher has a score')
    best = means[0]
    differences = {
        other: paired_difference(scores[best], scores[other], confidence) for other in means[1:]
    }
    level = [other for other, d in differences.items() if d is None or d.low is None or d.low <= 0]
    return Verdict(best, not level, differences, level)


def ranking(scores: Scores) -> list[str]:
    """Teachers from the highest mean over seeds to the lowest; equal ones in their order."""
    means = {name: spread(list(runs.values())).mean for name, runs in scores.items() if runs}
    return sorted(means, key=lambda name: -means[name])


def survivors(scores: Scores) -> list[str]:
    """The better half of a round, at least two where there are two."""
    order = ranking(scores)
    return order[: max(2, (len(order) + 1) // 2)]


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b of two lists: 1 for the same order, -1 for the opposite one.

    ``(C - D) / sqrt((C + D + ties in first) (C + D + ties in second))`` over all pairs; NaN where a list is constant.

    Args:
        first: ``[n]``.
        second: ``[n]``, of the same things.

    Raises:
        ValueError: If the lengths differ.
    """
    agree = disagree = tied_first = tied_second = 0
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        for c, d in zip(first[:i], second[:i], strict=True):
            if a == c and b == d:
                continue
            if a == c:
                tied_first += 1
            elif b == d:
                tied_second += 1
            elif (a > c) == (b > d):
                agree += 1
            else:
                disagree += 1
    pairs = agree + disagree
    size = ((pairs + tied_first) * (pairs + tied_second)) ** 0.5
    return (agree - disagree) / size if size else float('nan')
