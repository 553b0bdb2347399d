"""Part b: steps in fp16 and bf16 beside float32, from the same weights and random numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..benchmark_suites.batches import make_batch
from ..benchmark_suites.steps import build_step, load_config
from .record import Options, Record

ROOT = Path(__file__).resolve().parents[2]
STEPS = 3


class Size(NamedTuple):
    """A config and a batch of it."""

    config: str
    batch_size: int
    image_size: tuple[int, int]


MINI = (
    Size('configs/mini/faster_rcnn_dpk.py', 8, (320, 320)),
    Size('configs/mini/retinanet_dpk.py', 8, (320, 320)),
    Size('configs/mini/fashion_cnn_dpk.py', 128, (28, 28)),
)
FULL = (
    Size('configs/dpk/imagenet/resnet34_resnet18.py', 128, (224, 224)),
    Size('configs/dpk/faster_rcnn_r152_r50.py', 2, (800, 1344)),
    Size('configs/dpk/retinanet_r101_r50.py', 2, (800, 1344)),
)
TINY = (Size('configs/mini/fashion_cnn_dpk.py', 8, (28, 28)),)


def run(options: Options, record: Record) -> None:
    """A row for each config and precision."""
    for size in TINY if options.tiny else MINI + FULL:
        exact = None
        # a CPU trains in bfloat16 alone
        for amp in (
            (None, 'float16', 'bfloat16') if options.device == 'cuda' else (None, 'bfloat16')
        ):
            case = f'{Path(size.config).stem}, {amp or "float32"}'
            with record.attempt(what='precision', case=case, config=size.config, amp=amp) as row:
                row.update(steps_of(size, options, amp))
                exact = exact or row['losses'][0]
                row['relative_difference'] = abs(row['losses'][0] / exact - 1)
                if not all(map(math.isfinite, row['losses'])):
                    row['error'] = 'a loss is not finite.'
            if options.device == 'cuda':
                torch.cuda.empty_cache()


def steps_of(size: Size, options: Options, amp: str | None) -> dict[str, Any]:
    """The losses of a few steps, and the largest of the first one's parts."""
    torch.manual_seed(0)
    cfg = load_config(str(ROOT / size.config))
    model, optimizer = build_step(cfg, options.device, amp, mask_ratio=0.5)
    data = make_batch(cfg, size.batch_size, size.image_size)
    found: dict[str, Any] = dict(losses=[])
    for step in range(STEPS):
        torch.manual_seed(step)
        logs = {name: float(value) for name, value in model.train_step(data, optimizer).items()}
        found['losses'].append(logs['loss'])
        if step == 0:
            found['parts'] = {k: v for k, v in logs.items() if 'loss' in k and k != 'loss'}
    parts = optimizer.values() if hasattr(optimizer, 'values') else [optimizer]
    scaler = getattr(next(iter(parts)), 'loss_scaler', None)
    if scaler is not None and amp == 'float16':
        found['scale'] = scaler.get_scale()
    return found
