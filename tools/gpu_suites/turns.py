"""Cases that take turns on a device, with what they have shown so far on the disk."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..benchmark_suites.timing import Case
from .record import Record

Build = Callable[[], Case]


def take_turns(
    record: Record,
    what: str,
    builds: Mapping[str, Build],
    device: str,
    rounds: int,
    seconds: float,
    floor: str = '',
) -> dict[str, dict[str, Any]]:
    """Builds cases, calls each twice, and then times them in turns.

    A case that cannot be built or called gets a row with ``error`` and the others go on. The second call shows the peak
    of its memory (CUDA): that of its activations, gradients and buffers beyond what stays from step to step.

    Args:
        record: Gets a row a case.
        what: The rows' group.
        builds: Name -> what gives the case.
        device: 'cpu' or 'cuda'.
        rounds: Counted calls of each case, at most.
        seconds: All of it together, about; there is at least one round.
        floor: The case that the others are divided by; the first one if empty.

    Returns:
        Name -> row.
    """
    end = time.monotonic() + seconds
    cases: dict[str, Case] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name, build in builds.items():
        with record.attempt(what=what, case=name) as row:
            case = build()
            began = time.perf_counter()
            case()
            _wait(device)
            row['first_call'] = time.perf_counter() - began
            if device == 'cuda':
                before = torch.cuda.memory_allocated()
                torch.cuda.reset_peak_memory_stats()
                case()
                torch.cuda.synchronize()
                row['peak_mib'] = (torch.cuda.max_memory_allocated() - before) / 2**20
                row['resident_mib'] = before / 2**20
            cases[name], rows[name] = case, row
    floor = floor or next(iter(builds))
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds):
        if number and time.monotonic() > end:
            break
        for name in list(cases):
            try:
                taken[name].append(_timed(cases[name], device))
            except Exception as error:
                rows[name]['error'] = f'{type(error).__name__}: {str(error)[:500]}'
                del cases[name]
        for name, times in taken.items():
            if times:
                _summarise(rows[name], times, taken.get(floor) or None, name == floor)
        record.save()
    return rows


def _summarise(
    row: dict[str, Any], times: list[float], floor: list[float] | None, is_floor: bool
) -> None:
    row.update(
        seconds=statistics.median(times), least=min(times), most=max(times), calls=len(times)
    )
    if floor is not None and not is_floor:
        row['ratio'] = row['seconds'] / statistics.median(floor)


def _wait(device: str) -> None:
    if device == 'cuda':
        torch.cuda.synchronize()


def _timed(case: Case, device: str) -> float:
    _wait(device)
    began = time.perf_counter()
    case()
    _wait(device)
    return time.perf_counter() - began
