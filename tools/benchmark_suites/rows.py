"""One line of the benchmark, as the table shows it and the JSON holds it."""

from __future__ import annotations

from typing import NamedTuple

from .timing import Timing


class Row(NamedTuple):
    """A measured case.

    Attributes:
        suite: The suite that measured it.
        case: What was measured.
        seconds: Median seconds; None where something else than time was measured.
        lower: First quartile.
        upper: Third quartile.
        ratio: Median over that of ``against``; None for the case that the others are compared with.
        against: Name of that case.
        peak_mib: Peak of the tensor memory beyond what was there before, MiB.
        memory_ratio: ``peak_mib`` over that of ``against``.
        target: What was aimed at, as text such as ``'<= 0.25'``.
        note: A remark.
        count: What was counted, where nothing was timed.
    """

    suite: str
    case: str
    seconds: float | None = None
    lower: float | None = None
    upper: float | None = None
    ratio: float | None = None
    against: str = ''
    peak_mib: float | None = None
    memory_ratio: float | None = None
    target: str = ''
    note: str = ''
    count: int | None = None


def rows_of(
    suite: str,
    timings: dict[str, Timing],
    against: str = '',
    memory: dict[str, int] | None = None,
    targets: dict[str, str] | None = None,
    notes: dict[str, str] | None = None,
) -> list[Row]:
    """Lines of cases that were timed together.

    Args:
        suite: The suite.
        timings: Case -> timing.
        against: The case that the others are compared with; the first one if empty.
        memory: Case -> peak in bytes, where measured.
        targets: Case -> target text.
        notes: Case -> remark.

    Returns:
        A row for each case, in order.
    """
    against = against or next(iter(timings))
    memory, rows = memory or {}, []
    for case, time in timings.items():
        peak = memory.get(case)
        is_base = case == against
        base_peak = memory.get(against)
        rows.append(
            Row(
                suite,
                case,
                *time[:3],
                ratio=None if is_base else time.median / timings[against].median,
                against='' if is_base else against,
                peak_mib=None if peak is None else peak / 2**20,
                memory_ratio=None if is_base or peak is None or not base_peak else peak / base_peak,
                target=(targets or {}).get(case, ''),
                note=(notes or {}).get(case, ''),
            )
        )
    return rows
