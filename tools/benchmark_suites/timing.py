"""Times of several cases that take turns, and the peak of the memory that one of them needs."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

Case = Callable[[], Any]


class Timing(NamedTuple):
    """Seconds of one case.

    Attributes:
        median: Median over the counted rounds.
        lower: First quartile.
        upper: Third quartile.
        rounds: How many were counted.
    """

    median: float
    lower: float
    upper: float
    rounds: int


def summarise(seconds: list[float]) -> Timing:
    """Median and quartiles."""
    lower, median, upper = (float(v) for v in np.percentile(seconds, (25, 50, 75)))
    return Timing(median, lower, upper, len(seconds))


def interleave(
    cases: Mapping[str, Case],
    rounds: int,
    warmup: int = 2,
    device: str = 'cpu',
    wall: bool = False,
) -> dict[str, Timing]:
    """Times cases that take turns, so that a machine that slows down slows all of them.

    On CUDA each case is timed by events around it, after the device has finished what was before. On a CPU with one
    thread it is the processor's time: other programs on the machine count only as far as they slow it down.

    Args:
        cases: Name -> what to time.
        rounds: Counted calls of each case.
        warmup: Calls of each case before them.
        device: 'cpu' or 'cuda'.
        wall: Whether a CPU's time is that of the clock on the wall: for cases that start processes or wait for others,
            whose time the processor's time of this one leaves out.

    Returns:
        A :class:`Timing` for each case.
    """
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(warmup + rounds):
        for name, case in cases.items():
            seconds = _on_cuda(case) if device.startswith('cuda') else _on_cpu(case, wall)
            if number >= warmup:
                taken[name].append(seconds)
    return {name: summarise(values) for name, values in taken.items()}


def _on_cpu(case: Case, wall: bool) -> float:
    alone = torch.get_num_threads() == 1 and not wall
    clock = time.process_time if alone else time.perf_counter
    start = clock()
    case()
    return clock() - start


def _on_cuda(case: Case) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    case()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000


def peak_memory(case: Case, device: str = 'cpu') -> int:
    """How much tensor memory a call needs at most, beyond what is there all the time, in bytes.

    The call is made twice and the second one counts. On CUDA the peak is what the caching allocator
    says, over what was allocated before; on the CPU it is the highest over the lowest point of the
    running sum of the allocations that torch's profiler records, so that gradients which a call
    frees first and makes again are counted.

    Args:
        case: What to run.
        device: 'cpu' or 'cuda'.

    Returns:
        Bytes.
    """
    if device.startswith('cuda'):
        case()
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        case()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    # The profiler sees only what becomes of memory that was allocated under it: hence the first call.
    _allocations(case)
    now = lowest = highest = 0
    for size in _allocations(case):
        now += size
        lowest, highest = min(lowest, now), max(highest, now)
    return highest - lowest


def _allocations(case: Case) -> list[int]:
    """Bytes allocated (freed: negative) on the CPU, in order of time."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the profiler warns of cycles that are not used here
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profile:
            case()
    # The sums over operators that the public tables give know no peak; the raw events do.
    events = profile.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == '[memory]')
    return [size for _, size in changes]
