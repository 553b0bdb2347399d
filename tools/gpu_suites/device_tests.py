"""Part a: the tests that need CUDA, and a training step in a process group of one."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import pytest
import torch

from ..benchmark_suites.batches import make_batch
from ..benchmark_suites.steps import build_step, load_config
from .record import Options, Record

ROOT = Path(__file__).resolve().parents[2]
# Where tests take a device; `-k cuda` chooses those that need a GPU by the names of their parameters.
TESTS = (
    'tests/compat/ops',
    'tests/functional/test_host_copy.py',
    'tests/models/losses/test_contract.py',
    'tests/tools/benchmark_suites/test_syncs.py',
)
TINY_TESTS = ('tests/functional/test_host_copy.py',)
CONFIG = 'configs/mini/faster_rcnn_dpk.py'


class _Results:
    """A pytest plugin: counts outcomes in a row, and keeps what failed."""

    def __init__(self, record: Record, row: dict) -> None:
        self.record, self.row = record, row
        self.counts: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == 'call' or report.outcome != 'passed':
            self.counts[report.outcome] += 1
            self.row.update(self.counts)
            if report.failed:
                self.record.add(
                    what='test that failed',
                    case=report.nodeid,
                    error=report.longreprtext[-1500:],
                    seconds=round(report.duration, 2),
                )
            elif sum(self.counts.values()) % 20 == 0:
                self.record.save()


def run(options: Options, record: Record) -> None:
    """Runs the process group first: it is short, and the tests may take all of the time."""
    with record.attempt(what='process group of one', case=_backend(options)) as row:
        row.update(_process_group(options))
    row = record.add(what='tests', case=f'-k {options.device}')
    tests = TINY_TESTS if options.tiny else TESTS
    arguments = ['-q', '-k', options.device, '-p', 'no:cacheprovider', '-p', 'no:randomly']
    arguments += ['--rootdir', str(ROOT), *(str(ROOT / test) for test in tests)]
    status = pytest.main(arguments, plugins=[_Results(record, row)])
    if status not in (0, 1):  # 1: tests failed, which are rows
        row['error'] = f'pytest ended with status {int(status)}.'
    record.save()


def _backend(options: Options) -> str:
    return 'nccl' if options.device == 'cuda' else 'gloo'


def _process_group(options: Options) -> dict:
    """Two steps of a distillation under DistributedDataParallel."""
    from mmengine.model import MMDistributedDataParallel
    from mmengine.optim import build_optim_wrapper

    with tempfile.TemporaryDirectory() as folder:
        torch.distributed.init_process_group(
            _backend(options), init_method=f'file://{folder}/store', rank=0, world_size=1
        )
        try:
            total = torch.ones(1, device=options.device)
            torch.distributed.all_reduce(total)
            cfg = load_config(str(ROOT / CONFIG))
            model, _ = build_step(cfg, options.device)
            data = make_batch(cfg, 2, (64, 64) if options.tiny else (320, 320))
            wrapped = MMDistributedDataParallel(module=model, broadcast_buffers=False)
            optimizer = build_optim_wrapper(wrapped, cfg.optim_wrapper)
            losses = [float(wrapped.train_step(data, optimizer)['loss']) for _ in range(2)]
        finally:
            torch.distributed.destroy_process_group()
    return dict(world=float(total), losses=losses)
