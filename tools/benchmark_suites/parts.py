"""Where the time of one training step goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from mmengine.device import get_device

from dpk_mm.models.losses import DPKLoss

from .batches import make_batch
from .rows import Row
from .steps import build_step, default_image_size, load_config
from .timing import peak_memory, summarise

WHOLE = 'whole step'


class Stopwatch:
    """Time of nested parts, each without what other parts inside it take."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[list[float]] = []  # seconds of the parts inside each open one

    def _now(self) -> float:
        if self.device.startswith('cuda'):
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted under a name."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self._open.append([])
            start = self._now()
            try:
                return function(*args, **kwargs)
            finally:
                taken = self._now() - start
                self.seconds[name] += taken - sum(self._open.pop())
                if self._open:
                    self._open[-1].append(taken)

        return run


@contextmanager
def watch(model: Any, optimizer: Any, watch: Stopwatch):
    """Puts a stopwatch on the parts of a distillation model; all is as before afterwards."""
    with ExitStack() as stack:

        def put(owner: Any, attribute: str, name: str) -> None:
            timed = watch.timed(name, getattr(owner, attribute))
            stack.enter_context(patch.object(owner, attribute, timed))

        put(model.data_preprocessor, 'forward', 'data preprocessor')
        put(model, '_run_teacher', 'teacher forward')
        put(model.student, 'forward', 'student forward and its losses')
        put(model.distiller, 'compute_distill_losses', 'other distillation losses, recorders')
        for module in model.distiller.modules():
            if not isinstance(module, DPKLoss):
                continue
            put(module, 'mask_ratio', 'gap and ratio')
            put(module, 'parts', 'loss on the hybrid features (MSE)')
            if module.criterion is not None:
                put(module.criterion, 'parts', 'criterion (FGD)')
            for transform in module.transforms.values():
                put(transform, 'forward', 'embedding, stitching, head')
                for part in ('student_encoder', 'teacher_encoder', 'decoder'):
                    if hasattr(transform, part):
                        name = 'decoders' if part == 'decoder' else 'encoders'
                        put(getattr(transform, part), 'forward', name)
            for kind in {type(stage.mask) for stage in module.stages.values()}:
                put(kind, '__call__', 'mask')
        put(torch.Tensor, 'backward', 'backward of everything')
        wrappers = optimizer.values() if hasattr(optimizer, 'values') else [optimizer]
        for wrapper in wrappers:
            put(wrapper.optimizer, 'step', 'optimizer')
        put(model, 'train_step', 'rest (hooks, logging of losses, zero_grad)')
        yield


def parts(
    filename: str,
    rounds: int,
    device: str | None = None,
    batch_size: int | None = None,
    image_size: tuple[int, int] | None = None,
    boxes_per_image: int = 10,
    amp: str | None = None,
    mask_ratio: float | None = 0.5,
    warmup: int = 2,
) -> list[Row]:
    """Medians of the parts of a step. Arguments as of :func:`tools.benchmark_suites.steps.steps`.

    On CUDA the device is waited for at each border, so that the sum exceeds the time of an
    undisturbed step.
    """
    device = device or get_device()
    cfg = load_config(filename)
    model, optimizer = build_step(cfg, device, amp, mask_ratio)
    data = make_batch(
        cfg,
        batch_size or cfg.train_dataloader.batch_size,
        image_size or default_image_size(cfg),
        boxes_per_image,
    )
    taken: dict[str, list[float]] = defaultdict(list)
    for number in range(warmup + rounds):
        clock = Stopwatch(device)
        with watch(model, optimizer, clock):
            model.train_step(data, optimizer)
        if number >= warmup:
            for name, seconds in clock.seconds.items():
                taken[name].append(seconds)
            taken[WHOLE].append(sum(clock.seconds.values()))
    peak = peak_memory(lambda: model.train_step(data, optimizer), device)
    times = {name: summarise(values) for name, values in taken.items()}
    whole = times.pop(WHOLE)
    rows = [Row('parts', WHOLE, *whole[:3], peak_mib=peak / 2**20)]
    for name, seconds in sorted(times.items(), key=lambda item: -item[1].median):
        target = '<= 0.01' if name == 'gap and ratio' else ''
        ratio = seconds.median / whole.median
        rows.append(Row('parts', name, *seconds[:3], ratio=ratio, against=WHOLE, target=target))
    return rows
