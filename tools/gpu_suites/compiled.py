"""Part e: ``torch.compile`` of the teacher, of the transformation modules, of both, and channels_last."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dpk_mm.models.losses import DPKLoss
from dpk_mm.models.teacher.speed import compile_forward

from ..benchmark_suites.batches import make_batch
from ..benchmark_suites.steps import build_step, load_config
from ..benchmark_suites.timing import Case
from .precision import FULL, TINY, Size
from .record import Options, Record
from .step_times import on_device
from .turns import take_turns

ROOT = Path(__file__).resolve().parents[2]
AMP = 'bfloat16'
# Name -> teacher_precision, whether the teacher is compiled, whether the modules are, channels_last.
VARIANTS: dict[str, tuple[str | None, bool, bool, bool]] = {
    'eager': (None, False, False, False),
    'channels_last': (None, False, False, True),
    'teacher compiled': (None, True, False, False),
    'teacher in bfloat16': ('bfloat16', False, False, False),
    'modules compiled': (None, False, True, False),
    'teacher and modules compiled': (None, True, True, False),
    'teacher and modules compiled, channels_last': (None, True, True, True),
}
# Of these the test of the report itself takes the ones that have all of it.
TINY_VARIANTS = ('eager', 'teacher in bfloat16', 'teacher and modules compiled, channels_last')


def run(options: Options, record: Record) -> None:
    """For each config and precision, every variant beside eager; the loss of the first step with it."""
    groups = (
        [(TINY[0], None)] if options.tiny else [(FULL[0], AMP), (FULL[0], None), (FULL[1], None)]
    )
    for number, (size, amp) in enumerate(groups):
        seconds = record.left / (len(groups) - number)
        what = f'{Path(size.config).stem}, {amp or "float32"}'
        losses: dict[str, float] = {}
        builds = {
            name: partial(build, size, amp, options, name, losses)
            for name in (TINY_VARIANTS if options.tiny else VARIANTS)
            if record.left > 20 or name == 'eager'
        }
        rows = take_turns(
            record, what, builds, options.device, 1 if options.tiny else 10, 0.2 * seconds
        )
        for name, row in rows.items():
            row['loss'] = losses[name]
            if 'eager' in losses:
                row['relative_difference'] = abs(losses[name] / losses['eager'] - 1)
        record.save()
        if options.device == 'cuda':
            torch.cuda.empty_cache()


def build(
    size: Size, amp: str | None, options: Options, name: str, losses: dict[str, float]
) -> Case:
    """A step of one variant; its first call puts the loss into ``losses``."""
    precision, teacher, modules, channels_last = VARIANTS[name]
    # without a compiler on the machine, a backend that only traces tests the same calls
    arguments = dict(backend='eager') if options.tiny else {}
    torch.manual_seed(0)
    cfg = copy.deepcopy(load_config(str(ROOT / size.config)))
    cfg.model.teacher_precision = precision
    if teacher:
        cfg.model.teacher_compile = arguments or True
    model, optimizer = build_step(cfg, options.device, amp, mask_ratio=0.5)
    if modules:
        for loss in model.modules():
            if isinstance(loss, DPKLoss):
                for transform in loss.transforms.values():
                    # in training the number of tokens is another one at each step
                    compile_forward(transform, dict(arguments, dynamic=True))
    if channels_last:
        model.to(memory_format=torch.channels_last)
        model.teacher.to(memory_format=torch.channels_last)
    data = on_device(make_batch(cfg, size.batch_size, size.image_size), options.device)

    def step() -> Any:
        first = name not in losses
        if first:
            torch.manual_seed(1)
        logs = model.train_step(data, optimizer)
        if first:
            losses[name] = float(logs['loss'])

    return step
