"""How the cost of a step grows with the image, the batch, and the number of processes."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from .batches import make_batch
from .rows import Row, rows_of
from .steps import floor_case, load_config, steps, train_case
from .timing import Timing, interleave

ROOT = Path(__file__).resolve().parents[2]
SIDES = (320, 640, 960, 1333)
BATCH_SIZES = (1, 2, 4, 8, 16)


def image_sides(
    filename: str, rounds: int, device: str, sides: Sequence[int] = SIDES, amp: str | None = None
) -> list[Row]:
    """A step by the side of a square image, batch 1, against the floor of the same side."""
    rows = []
    for side in sides:
        found = steps(
            filename,
            rounds,
            device,
            batch_size=1,
            image_size=(side, side),
            amp=amp,
            mmrazor_losses=False,
            suite='image_side',
        )
        rows += [_named(found[0], f'floor, {side} px'), _named(found[-1], f'step, {side} px')]
    return rows


def windows(
    filename: str, rounds: int, device: str, side: int = 1333, amp: str | None = None
) -> list[Row]:
    """A step on one large square image, with a config's ``max_tokens`` and with none, against the floor."""
    cfg = load_config(filename)
    data = make_batch(cfg, 1, (side, side))
    whole = copy.deepcopy(cfg)
    for loss in whole.model.distiller.distill_losses.values():
        for stage in loss.get('transforms', {}).values():
            stage.max_tokens = None
    cases = {f'floor, {side} px': floor_case(cfg, data, device, amp)}
    for name, part in (('windows of at most 441 tokens', cfg), ('all tokens at once', whole)):
        cases[name] = train_case(part, data, device, amp=amp, mask_ratio=0.5)
    return rows_of('windows', interleave(cases, rounds, 1, device))


def batch_sizes(
    filename: str,
    rounds: int,
    device: str,
    sizes: Sequence[int] = BATCH_SIZES,
    image_size: tuple[int, int] | None = None,
    amp: str | None = None,
) -> list[Row]:
    """A step by the number of images, against the floor of the same batch."""
    rows = []
    for size in sizes:
        found = steps(
            filename,
            rounds,
            device,
            batch_size=size,
            image_size=image_size,
            amp=amp,
            mmrazor_losses=False,
            suite='batch_size',
        )
        rows += [_named(found[0], f'floor, batch {size}'), _named(found[-1], f'step, batch {size}')]
    return rows


def _named(row: Row, name: str) -> Row:
    return row._replace(case=name, against='floor' if row.against else '')


def ranks(
    filename: str,
    rounds: int,
    batch_size: int | None = None,
    image_size: tuple[int, int] | None = None,
) -> list[Row]:
    """A step in one process and in two (gloo), each process with one thread and the same batch.

    What it shows is the cost of bringing gradients and ratios together; a CPU with two cores or
    more is needed for the two to run at the same time.
    """
    rows: list[Row] = []
    for count in (1, 2):
        command = [sys.executable, '-m', 'torch.distributed.run', f'--nproc_per_node={count}']
        command += ['--master_port=0', '--rdzv-backend=c10d', '--rdzv-endpoint=localhost:0']
        command += ['-m', 'tools.benchmark_suites.growth', filename, str(rounds)]
        command += [str(batch_size or 0), *(str(v) for v in image_size or (0, 0))]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
        environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=path)
        out = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        line = next((v for v in out.stdout.splitlines() if v.startswith('TIMING ')), None)
        if out.returncode or line is None:
            raise RuntimeError(
                f'the benchmark with {count} processes failed:\n{out.stderr[-2000:]}'
            )
        time = Timing(*json.loads(line.removeprefix('TIMING ')))
        ratio = time.median / rows[0].seconds if rows and rows[0].seconds else None
        rows.append(
            Row(
                'ranks',
                f'step, {count} process{"es" * (count > 1)}',
                *time[:3],
                ratio=ratio,
                against='1 process' if rows else '',
            )
        )
    return rows


def _one_rank(filename: str, rounds: int, batch_size: int, height: int, width: int) -> None:
    from mmengine.model import MMDistributedDataParallel
    from mmengine.optim import build_optim_wrapper

    from .batches import make_batch
    from .steps import build_step, default_image_size, load_config

    torch.distributed.init_process_group('gloo')
    cfg = load_config(filename)
    model, _ = build_step(cfg, 'cpu', mask_ratio=0.5)
    data = make_batch(
        cfg,
        batch_size or cfg.train_dataloader.batch_size,
        (height, width) if height else default_image_size(cfg),
    )
    wrapped = MMDistributedDataParallel(module=model, broadcast_buffers=False)
    optimizer = build_optim_wrapper(wrapped, cfg.optim_wrapper)
    step = {'step': lambda: wrapped.train_step(data, optimizer)}
    timing = interleave(step, rounds, wall=True)['step']  # it waits for the other process
    if torch.distributed.get_rank() == 0:
        print('TIMING', json.dumps(timing), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    _one_rank(sys.argv[1], *(int(v) for v in sys.argv[2:6]))
