"""How long a training step takes: several configs in one process, interleaved, on the same images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, HOOKS, init_default_scope
from mmrazor.registry import MODELS
from torch import nn

from ..engine.hooks.mask_ratio_hook import MaskRatioHook
from ..models.losses import DPKLoss


class StepTime(NamedTuple):
    """Seconds of a whole training step (data preprocessor, forward, backward, optimizer).

    Attributes:
        config: Name of the config.
        median: Median over the counted steps.
        lower: First quartile.
        upper: Third quartile.
        ratio: Median over the median of the first config.
        peak_memory_mib: Peak of the CUDA allocator in MiB during the counted steps; None on the CPU.
    """

    config: str
    median: float
    lower: float
    upper: float
    ratio: float
    peak_memory_mib: float | None


def _build(cfg: Config, device: torch.device) -> tuple[nn.Module, object]:
    cfg = cfg.copy()
    if 'teacher_ckpt' in cfg.model:
        cfg.model.teacher_ckpt = None  # time does not depend on the weights
    model = MODELS.build(cfg.model)
    model.to(device).train()
    for hook_cfg in cfg.get('custom_hooks', []):
        if 'MaskRatio' in hook_cfg['type']:
            hook = HOOKS.build(hook_cfg)
            assert isinstance(hook, MaskRatioHook)
            for module in model.modules():
                if isinstance(module, DPKLoss):
                    module.mask_ratio = hook.policy
    return model, build_optim_wrapper(model, cfg.optim_wrapper)


def _batch(cfg: Config) -> dict:
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    return pseudo_collate([dataset[i] for i in range(cfg.train_dataloader.batch_size)])


def measure_step_time(
    configs: Sequence[str], steps: int = 30, warmup: int = 5, device: str | None = None
) -> list[StepTime]:
    """Times training steps of several configs on one batch of the first config's training data.

    The configs take turns step by step, so that a machine that slows down slows all of them.

    Args:
        configs: Files; the first one is what the others are compared with.
        steps: Counted steps of each config.
        warmup: Steps before them.
        device: Where to run; CUDA if there is one.

    Returns:
        One entry for each config.
    """
    place = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    loaded = [Config.fromfile(c) for c in configs]
    init_default_scope(loaded[0].get('default_scope', 'mmdet'))
    data = _batch(loaded[0])
    runs = [_build(cfg, place) for cfg in loaded]
    seconds: list[list[float]] = [[] for _ in runs]
    memory = [0.0 for _ in runs]
    for step in range(warmup + steps):
        for i, (model, optimizer) in enumerate(runs):
            if place.type == 'cuda':
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            model.train_step(data, optimizer)
            if place.type == 'cuda':
                torch.cuda.synchronize()
                memory[i] = max(memory[i], torch.cuda.max_memory_allocated() / 2**20)
            if step >= warmup:
                seconds[i].append(time.perf_counter() - start)
    base = float(np.median(seconds[0]))
    results = []
    for name, taken, peak in zip(configs, seconds, memory, strict=True):
        lower, median, upper = (float(v) for v in np.percentile(taken, (25, 50, 75)))
        shown = peak if place.type == 'cuda' else None
        results.append(StepTime(Path(name).stem, median, lower, upper, median / base, shown))
    return results
