"""The factor of a warm-up, by value."""

import pytest

from dpk_mm.errors import UsageError
from dpk_mm.models.loss_parts.warmup import Warmup


def test_the_factor():
    warmup = Warmup(4, 'XLoss')
    factors = []
    for warmup.done in range(6):
        factors.append(warmup.factor())
    assert factors == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_without_a_warm_up_nothing_is_needed():
    assert Warmup(0, 'XLoss').factor() == 1.0


def test_a_pass_that_nobody_names_is_an_error():
    with pytest.raises(UsageError, match='XLoss has a warm-up of 4 passes, .*WarmupHook.*warmup=0'):
        Warmup(4, 'XLoss').factor()


@pytest.mark.parametrize('passes', [-1, 2.0, True, '20'])
def test_no_number_of_passes(passes):
    with pytest.raises(ValueError, match='warmup of XLoss must be a whole number of passes'):
        Warmup(passes, 'XLoss')
