"""Mean, spread, and paired differences with an interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1) of n values; no deviation for a single one."""

    mean: float
    deviation: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences, and a confidence interval of it; none for a single pair.

    The interval is ``mean +- t * s / sqrt(n)`` with s the sample standard deviation (n - 1) of the
    differences and t the quantile of Student's distribution with n - 1 degrees of freedom.
    """

    mean: float
    low: float | None
    high: float | None
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Mean and deviation of some values.

    Raises:
        ValueError: If there is none.
    """
    n = len(values)
    if n == 0:
        raise ValueError('the mean of no values is not defined')
    mean = math.fsum(values) / n
    if n == 1:
        return Spread(mean, None, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return Spread(mean, deviation, n)


def paired_difference(
    values: Mapping[Any, float],
    reference: Mapping[Any, float],
    confidence: float = 0.95,
) -> Difference | None:
    """Compares two methods run by run.

    Args:
        values: Key of the pairing (the seed) -> value.
        reference: The same of what it is compared with; keys that only one of them has are left out.
        confidence: Of the interval, in (0, 1).

    Returns:
        ``values`` minus ``reference``; None if they have no key in common.
    """
    common = [key for key in values if key in reference]
    if not common:
        return None
    of_pairs = spread([values[key] - reference[key] for key in common])
    if of_pairs.deviation is None:
        return Difference(of_pairs.mean, None, None, 1)
    quantile = student_t_quantile((1 + confidence) / 2, of_pairs.n - 1)
    half = quantile * of_pairs.deviation / math.sqrt(of_pairs.n)
    return Difference(of_pairs.mean, of_pairs.mean - half, of_pairs.mean + half, of_pairs.n)


def student_t_cdf(t: float, degrees: int) -> float:
    """Distribution function of Student's t.

    For a whole number of degrees it is a finite sum (Abramowitz and Stegun, 26.7.3 and 26.7.4):
    with ``a = atan(t / sqrt(degrees))``, the probability of (-t, t) is
    ``2/pi * (a + sin a * (cos a + 2/3 cos^3 a + 2*4/(3*5) cos^5 a + ...))`` for odd degrees and
    ``sin a * (1 + 1/2 cos^2 a + 1*3/(2*4) cos^4 a + ...)`` for even ones, the powers going up to
    ``degrees - 2``.

    Args:
        t: Any number.
        degrees: Degrees of freedom, at least 1.

    Raises:
        ValueError: If ``degrees`` is below 1.
    """
    if degrees < 1:
        raise ValueError(f"Student's t needs at least 1 degree of freedom, got {degrees}")
    angle = math.atan(t / math.sqrt(degrees))
    odd = degrees % 2
    cosine = math.cos(angle)
    term = cosine if odd else 1.0
    total = 0.0
    for power in range(odd, degrees - 1, 2):
        total += term
        term *= (power + 1) / (power + 2) * cosine**2
    inner = math.sin(angle) * total
    if odd:
        inner = 2 / math.pi * (angle + inner)
    return (1 + inner) / 2


def student_t_quantile(probability: float, degrees: int) -> float:
    """Inverse of ``student_t_cdf``, by bisection.

    Args:
        probability: In (0, 1).
        degrees: Degrees of freedom, at least 1.

    Raises:
        ValueError: If an argument is out of range.
    """
    if not 0 < probability < 1:
        raise ValueError(f'the probability must be in (0, 1), got {probability}')
    if probability < 0.5:
        return -student_t_quantile(1 - probability, degrees)
    high = 1.0
    while student_t_cdf(high, degrees) < probability:
        high *= 2
    low = 0.0
    while high - low > 1e-12 * max(high, 1.0):
        middle = (low + high) / 2
        if student_t_cdf(middle, degrees) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2
