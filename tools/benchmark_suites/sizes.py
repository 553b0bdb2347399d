"""What transformation modules of the named sizes cost: large and small, one stage and all of them."""

from __future__ import annotations

import copy
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device

from dpk_mm.models.pairs import SIZES

from .batches import make_batch
from .rows import Row, rows_of
from .steps import (
    baseline,
    default_image_size,
    dpk_stages,
    floor_case,
    load_config,
    train_case,
    with_losses,
)
from .timing import Case, interleave, peak_memory

FLOOR = 'student step + teacher forward (floor)'


def with_size(cfg: Config, size: str) -> Config:
    """A distillation config whose transformation modules have the depths of a named size."""
    out = copy.deepcopy(cfg)
    for loss in out.model.distiller.distill_losses.values():
        for stage in loss.get('transforms', {}).values():
            if stage is not None:
                stage.update(SIZES[size])
    return out


def variants(cfg: Config) -> dict[str, Config]:
    """The config without its ``DPKLoss``, then with it by size: the last stage alone, and all."""
    losses = cfg.model.distiller.distill_losses
    others = [name for name, loss in losses.items() if 'transforms' not in loss]
    out = {', '.join(others) + ' only': with_losses(cfg, others)} if others else {}
    stages = dpk_stages(cfg)
    for size in SIZES:
        sized = with_size(cfg, size)
        if len(stages) > 1:
            out[f'DPK {size}, {stages[-1]}'] = with_losses(sized, list(losses), stages[-1:])
        out[f'DPK {size}, {" and ".join(stages)}'] = sized
    return out


def sizes(
    filename: str,
    rounds: int,
    device: str | None = None,
    batch_size: int | None = None,
    image_size: tuple[int, int] | None = None,
    boxes_per_image: int = 10,
    amp: str | None = None,
    mask_ratio: float | None = 0.5,
    warmup: int = 2,
    with_memory: bool = True,
    **_: Any,
) -> list[Row]:
    """Whole steps by size, with the parameters and FLOPs of the modules in the notes.

    Arguments as of :func:`tools.benchmark_suites.steps.steps`. Ratios are against the floor.
    """
    device = device or get_device()
    cfg = load_config(filename)
    size = image_size or default_image_size(cfg)
    batch_size = batch_size or cfg.train_dataloader.batch_size
    data = make_batch(cfg, batch_size, size, boxes_per_image)
    cases: dict[str, Case] = {
        FLOOR: floor_case(cfg, data, device, amp),
        'baseline (student without a teacher)': train_case(baseline(cfg), data, device, amp=amp),
    }
    notes = {}
    for name, variant in variants(cfg).items():
        cases[name] = train_case(variant, data, device, amp=amp, mask_ratio=mask_ratio)
        if dpk_stages(variant):
            notes[name] = _note(variant, size, mask_ratio or 0.5)
    timings = interleave(cases, rounds, warmup, device)
    memory = {n: peak_memory(c, device) for n, c in cases.items()} if with_memory else None
    return rows_of('sizes', timings, FLOOR, memory, notes=notes)


def _note(cfg: Config, size: tuple[int, int], mask_ratio: float) -> str:
    # imports more than a step needs
    from dpk_mm.analysis.complexity import measure_complexity

    report = measure_complexity(cfg, size, mask_ratio)
    modules = [row for row in report.rows if row.name.startswith('loss_')]
    parameters, flops = (
        sum(getattr(row, key) for row in modules) for key in ('parameters', 'flops')
    )
    return f'{parameters / 1e6:.2f} M parameters, {flops / 1e9:.2f} GFLOPs an image'
