import math

import numpy as np
import pytest

from tools.experiments.intervals import (
    Difference,
    Spread,
    paired_difference,
    spread,
    student_t_cdf,
    student_t_quantile,
)

# two-sided 95 %, as in every printed table
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 10: 2.228, 30: 2.042, 120: 1.980}


@pytest.mark.parametrize('degrees', TABLE)
def test_quantiles_are_those_of_the_printed_table(degrees):
    assert student_t_quantile(0.975, degrees) == pytest.approx(TABLE[degrees], abs=6e-4)
    assert student_t_quantile(0.025, degrees) == -student_t_quantile(0.975, degrees)


@pytest.mark.parametrize('degrees', [1, 2, 3, 4, 7, 12])
def test_distribution_is_the_integral_of_the_density(degrees):
    scale = math.gamma((degrees + 1) / 2) / math.gamma(degrees / 2) / math.sqrt(degrees * math.pi)
    for t in (-1.3, 0.0, 0.4, 2.5):
        x = np.linspace(0, t, 20001)
        density = scale * (1 + x**2 / degrees) ** (-(degrees + 1) / 2)
        integral = float(np.sum((density[1:] + density[:-1]) / 2 * np.diff(x)))
        assert student_t_cdf(t, degrees) == pytest.approx(0.5 + integral, abs=1e-7)


def test_quantile_inverts_the_distribution():
    for degrees in (1, 2, 5, 40):
        for probability in (0.01, 0.3, 0.5, 0.9, 0.999):
            t = student_t_quantile(probability, degrees)
            assert student_t_cdf(t, degrees) == pytest.approx(probability, abs=1e-10)


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match='at least 1 degree of freedom, got 0'):
        student_t_quantile(0.9, 0)
    with pytest.raises(ValueError, match='in \\(0, 1\\), got 1'):
        student_t_quantile(1, 3)
    with pytest.raises(ValueError, match='no values'):
        spread([])


def test_spread():
    assert spread([3.0]) == Spread(3.0, None, 1)
    values = [84.1, 85.3, 84.4, 86.0]
    found = spread(values)
    assert (found.mean, found.n) == (pytest.approx(np.mean(values)), 4)
    assert found.deviation == pytest.approx(np.std(values, ddof=1))


def test_paired_difference_by_hand():
    # differences 1, 2, 3: mean 2, s = 1, half width 4.3027 / sqrt(3)
    found = paired_difference({0: 11.0, 1: 22.0, 2: 33.0}, {2: 30.0, 1: 20.0, 0: 10.0, 7: 0.0})
    assert (found.mean, found.n) == (pytest.approx(2.0), 3)
    assert found.low == pytest.approx(2.0 - 4.30265 / math.sqrt(3), abs=1e-4)
    assert found.high == pytest.approx(2.0 + 4.30265 / math.sqrt(3), abs=1e-4)


def test_paired_difference_of_few():
    assert paired_difference({0: 2.0}, {0: 1.5}) == Difference(0.5, None, None, 1)
    assert paired_difference({0: 2.0}, {1: 1.5}) is None


def test_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        values = dict(enumerate(rng.normal(0.3, 1.0, 3)))
        found = paired_difference(values, dict.fromkeys(values, 0.0))
        hits += found.low <= 0.3 <= found.high
    assert hits / 2000 == pytest.approx(0.95, abs=0.015)
