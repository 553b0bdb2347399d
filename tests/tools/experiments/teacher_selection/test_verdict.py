import math
from itertools import combinations

import pytest

from tools.experiments.teacher_selection.verdict import decide, kendall_tau, ranking, survivors


def test_a_clear_winner():
    verdict = decide({'a': {0: 80.0, 1: 81.0, 2: 82.0}, 'b': {0: 85.0, 1: 86.1, 2: 87.0}})
    assert (verdict.best, verdict.sure, verdict.level) == ('b', True, [])
    assert verdict.differences['a'].mean == pytest.approx(5.0333, abs=1e-3)
    assert verdict.sentence == 'b is the best teacher of this race.'


def test_an_interval_that_holds_0():
    verdict = decide({'a': {0: 80.0, 1: 81.0}, 'b': {0: 85.0, 1: 80.0}, 'c': {0: 60.0, 1: 60.5}})
    assert (verdict.best, verdict.sure) == ('b', False)
    assert 'a' in verdict.level
    assert verdict.sentence.startswith('Cannot tell b from a')


def test_a_single_seed_tells_nothing():
    verdict = decide({'a': {0: 90.0}, 'b': {0: 10.0}})
    assert (verdict.best, verdict.sure, verdict.level) == ('a', False, ['b'])


def test_one_teacher_and_none():
    assert decide({'a': {0: 1.0}}).sentence == 'a: only this teacher was left.'
    with pytest.raises(ValueError, match='no teacher has a score'):
        decide({'a': {}})


def test_ranking_and_survivors():
    scores = {'a': {0: 1.0}, 'b': {0: 3.0, 1: 5.0}, 'c': {0: 2.0}, 'd': {0: 1.0}, 'e': {}}
    assert ranking(scores) == ['b', 'c', 'a', 'd']
    assert survivors(scores) == ['b', 'c']
    assert survivors({**scores, 'e': {0: 0.0}}) == ['b', 'c', 'a']
    assert survivors({'a': {0: 1.0}}) == ['a']
    assert survivors({'a': {0: 1.0}, 'b': {0: 2.0}}) == ['b', 'a']


def slow_tau(x, y):
    """Tau-b by its definition over all pairs."""
    pairs = list(combinations(range(len(x)), 2))
    signs = [((x[i] > x[j]) - (x[i] < x[j]), (y[i] > y[j]) - (y[i] < y[j])) for i, j in pairs]
    size = math.sqrt(sum(a != 0 for a, _ in signs) * sum(b != 0 for _, b in signs))
    return sum(a * b for a, b in signs) / size


@pytest.mark.parametrize(
    ('x', 'y'),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4]),
        ([1, 2, 3, 4], [4, 3, 2, 1]),
        ([1, 2, 3, 4, 5], [2, 1, 3, 5, 4]),
        ([1, 1, 2, 3, 3], [2, 1, 1, 4, 3]),
        ([1, 1, 2, 2], [1, 1, 2, 3]),
    ],
)
def test_kendall_tau_against_its_definition(x, y):
    assert kendall_tau(x, y) == pytest.approx(slow_tau(x, y))


def test_kendall_tau_at_its_ends():
    assert kendall_tau([1, 2, 3], [5, 6, 9]) == 1
    assert kendall_tau([1, 2, 3], [9, 6, 5]) == -1
    assert math.isnan(kendall_tau([1, 1], [1, 2]))
    with pytest.raises(ValueError, match='zip'):
        kendall_tau([1, 2], [1])
