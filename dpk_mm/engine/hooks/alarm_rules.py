"""When a distillation counts as one that cannot work: rules on numbers alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

#: Fewer measurements than this are no evidence, however long a pass over the data is.
LEAST_MEASUREMENTS = 3
#: A similarity has grown if it rose by this much; above the second value there is nothing to grow.
GROWN, SIMILAR = 0.01, 0.9


class ShareRule:
    """Whether the gradient share stays on the wrong side of a limit for a pass over the training data.

    Args:
        low: Share below which the teacher is not heard.
        high: Share above which the labels are not heard.
        interval: Iterations between two measurements.
        pass_length: Iterations of a pass; None where the data have no length.
    """

    def __init__(self, low: float, high: float, interval: int, pass_length: int | None) -> None:
        self.low, self.high, self.interval = low, high, interval
        least = LEAST_MEASUREMENTS * interval
        self.length = max(pass_length or 0, least - interval + 1)
        # the measurements in a row on one side: which, since when, how many; of those that are positive and finite
        # the number and the sum of the logarithms
        self.side, self.since, self.count, self.positive, self.log_sum = '', 0, 0, 0, 0.0

    def update(self, iteration: int, share: float) -> tuple[str, int, int, float | None] | None:
        """Takes a measurement.

        Args:
            iteration: Counted from 0.
            share: Norm of the distillation's gradient over that of the student's own losses; may be infinite.

        Returns:
            None, or ``'low'`` or ``'high'``, the number of measurements, the iterations for which they stand, and
            their geometric mean (None if all are zero or infinite).
        """
        side = 'low' if share < self.low else 'high' if share > self.high else ''
        if side != self.side:
            self.side, self.since, self.count, self.positive, self.log_sum = (
                side,
                iteration,
                0,
                0,
                0.0,
            )
        if not side:
            return None
        self.count += 1
        if 0 < share < math.inf:
            self.positive += 1
            self.log_sum += math.log(share)
        # a measurement stands for the iterations up to the next one
        covered = iteration - self.since + self.interval
        if covered < self.length or self.count < LEAST_MEASUREMENTS:
            return None
        mean = math.exp(self.log_sum / self.positive) if self.positive else None
        return side, self.count, covered, mean

    def forget(self) -> None:
        """Begins anew, as after iterations that do not count."""
        self.side = ''

    def state_dict(self) -> list[Any]:
        """What is being counted."""
        return [self.side, self.since, self.count, self.positive, self.log_sum]

    def load_state_dict(self, state: list[Any]) -> None:
        """Restores what :meth:`state_dict` gave."""
        self.side, self.since, self.count, self.positive, self.log_sum = state


class SimilarityRule:
    """Whether student and teacher become more alike: means over passes, compared with the first pass.

    Args:
        pass_length: Iterations of a pass over the training data.
        max_iterations: Of the whole training; nothing is judged before its half, nor before the third pass.
    """

    def __init__(self, pass_length: int, max_iterations: int) -> None:
        self.length, self.max_iterations = pass_length, max_iterations
        # stage -> sum and count
        self.first: dict[str, list[float]] = {}
        self.present: dict[str, list[float]] = {}

    def update(
        self, iteration: int, similarities: Mapping[str, float]
    ) -> dict[str, tuple[float, float]] | None:
        """Takes the similarities of an iteration.

        Args:
            iteration: Counted from 0.
            similarities: Stage -> CKA or cosine.

        Returns:
            None, or stage -> mean of the first pass and of this one, if none has grown.
        """
        for pairs in (self.first, self.present) if iteration < self.length else (self.present,):
            for stage, value in similarities.items():
                pair = pairs.setdefault(stage, [0.0, 0])
                pair[0] += value
                pair[1] += 1
        done, left = divmod(iteration + 1, self.length)
        if left:
            return None
        means = {
            stage: (self.first[stage][0] / self.first[stage][1], total / count)
            for stage, (total, count) in self.present.items()
            if stage in self.first
        }
        self.present = {}
        if done < 3 or 2 * (iteration + 1) < self.max_iterations or not means:
            return None
        grown = any(now >= first + GROWN or now >= SIMILAR for first, now in means.values())
        return None if grown else means

    def state_dict(self) -> dict[str, Any]:
        """What is being counted."""
        return {
            name: {stage: list(pair) for stage, pair in getattr(self, name).items()}
            for name in ('first', 'present')
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave."""
        for name in ('first', 'present'):
            setattr(self, name, {stage: list(pair) for stage, pair in state[name].items()})
