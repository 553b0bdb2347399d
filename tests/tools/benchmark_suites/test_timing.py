import socket
import subprocess
import time

import torch

from tools.benchmark_suites import growth
from tools.benchmark_suites.imports import imports
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


def test_time_in_other_processes_counts_on_the_wall_clock():
    case = {'sleep': lambda: time.sleep(0.05)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert interleave(case, 1, 0, wall=True)['sleep'].median >= 0.05
        assert interleave(case, 1, 0)['sleep'].median < 0.04
    finally:
        torch.set_num_threads(threads)


def test_imports_are_timed_on_the_wall_clock(monkeypatch):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 1)
    # what takes the time is another process
    monkeypatch.setattr(subprocess, 'run', lambda *args, **kwargs: time.sleep(0.05))
    assert [row.seconds >= 0.05 for row in imports(1)] == [True, True]


def test_a_rank_is_timed_on_the_wall_clock(monkeypatch):
    asked = {}

    def timed(cases, rounds, **kwargs):
        asked.update(kwargs)
        return dict.fromkeys(cases, Timing(1.0, 1.0, 1.0, rounds))

    monkeypatch.setattr(growth, 'interleave', timed)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    place = dict(RANK='0', WORLD_SIZE='1', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    for key, value in place.items():
        monkeypatch.setenv(key, value)
    growth._one_rank('configs/mini/fashion_cnn_dpk.py', 1, 4, 28, 28)
    assert asked == {'wall': True}
