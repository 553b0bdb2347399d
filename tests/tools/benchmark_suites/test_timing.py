import torch

from tools.benchmark_suites.rows import rows_of
from tools.benchmark_suites.timing import Timing, interleave, peak_memory, summarise


def test_cases_take_turns_and_the_first_rounds_do_not_count():
    calls = []
    timings = interleave(
        {'a': lambda: calls.append('a'), 'b': lambda: calls.append('b')}, rounds=3, warmup=2
    )
    assert calls == ['a', 'b'] * 5
    assert [t.rounds for t in timings.values()] == [3, 3]


def test_median_and_quartiles():
    assert summarise([5.0, 1.0, 2.0, 4.0, 3.0]) == Timing(3.0, 2.0, 4.0, 5)


def test_peak_memory_counts_what_lives_at_the_same_time():
    def three_at_most_two_together():
        a = torch.zeros(1000)
        b = a + 1
        del a
        return b * 2

    assert 8000 <= peak_memory(three_at_most_two_together) < 8500


def test_peak_memory_counts_what_a_call_frees_and_makes_again():
    kept = {}

    def replaces():
        kept.clear()
        kept['a'] = torch.zeros(1000)

    assert 4000 <= peak_memory(replaces) < 4100


def test_rows_hold_ratios_to_the_named_case():
    timings = {'a': Timing(3.0, 2.0, 4.0, 5), 'b': Timing(2.0, 1.0, 3.0, 5)}
    a, b = rows_of('s', timings, 'b', memory=dict(a=4 * 2**20, b=2 * 2**20), targets=dict(a='<= 1'))
    assert (a.ratio, a.against, a.peak_mib, a.memory_ratio, a.target) == (1.5, 'b', 4, 2, '<= 1')
    assert (b.ratio, b.against, b.memory_ratio, b.seconds) == (None, '', None, 2.0)
