"""Part d: where our code makes the host wait for the device, as CUDA itself says."""

from __future__ import annotations

from pathlib import Path

from ..benchmark_suites.syncs import syncs
from .precision import FULL, MINI, TINY
from .record import Options, Record

ROOT = Path(__file__).resolve().parents[2]


def run(options: Options, record: Record) -> None:
    """A row for each config with ratios at once and one step late, and one for each place."""
    for size in TINY if options.tiny else (*MINI, FULL[1], FULL[0]):
        with record.attempt(what=size.config, case='set up'):
            rows = syncs(
                str(ROOT / size.config),
                options.device,
                min(size.batch_size, 32),
                size.image_size,
            )
            for row in rows:
                record.add(what=size.config, case=row.case, count=row.count, target=row.target)
