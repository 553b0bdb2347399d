"""The step of each method on one pair against the floor, and the parameters that it trains along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmrazor.registry import MODELS

from dpk_mm.errors import UsageError

from .batches import make_batch
from .rows import Row, rows_of
from .steps import default_image_size, floor_case, load_config, names_of, train_case
from .timing import Case, interleave


def methods(
    filenames: Sequence[str],
    rounds: int,
    device: str | None = None,
    batch_size: int | None = None,
    image_size: tuple[int, int] | None = None,
    boxes_per_image: int = 10,
    amp: str | None = None,
    mask_ratio: float | None = 0.5,
    warmup: int = 2,
) -> list[Row]:
    """Times the training step of each config on one batch, the cases taking turns.

    Args:
        filenames: Configs of one pair of networks.
        rounds: Counted steps of each case.
        device: 'cpu' or 'cuda'; CUDA if there is one.
        batch_size: N; the first config's if None.
        image_size: (height, width); what the first config's transforms give if None.
        boxes_per_image: Of a detector.
        amp: None, 'float16' or 'bfloat16'.
        mask_ratio: The ratio of all stages, since the time depends on it; None leaves it free.
        warmup: Steps of each case before the counted ones.

    Returns:
        Rows; ratios are against the student's step and the teacher's forward pass together, notes are the parameters
        of the distillation.

    Raises:
        UsageError: If the configs are not of one pair.
    """
    device = device or get_device()
    configs = {name: load_config(file) for name, file in names_of(filenames).items()}
    first_name, first = next(iter(configs.items()))
    for name, cfg in configs.items():
        if _networks(cfg) != _networks(first):
            raise UsageError(
                f'{name} is of another pair than {first_name}: give the configs of one pair, such as those of a folder.'
            )
    data = make_batch(
        first,
        batch_size or first.train_dataloader.batch_size,
        image_size or default_image_size(first),
        boxes_per_image,
    )
    floor = 'student step + teacher forward (floor)'
    cases: dict[str, Case] = {floor: floor_case(first, data, device, amp)}
    notes = {}
    for name, cfg in configs.items():
        cases[name] = train_case(cfg, data, device, amp=amp, mask_ratio=mask_ratio)
        notes[name] = f'{_parameters(cfg):,} parameters'
    return rows_of('methods', interleave(cases, rounds, warmup, device), floor, notes=notes)


def _networks(cfg: Config) -> tuple[Any, ...]:
    """What makes a pair: kinds and sizes of the backbones, whatever they hand out."""
    own = ('out_indices', 'preact')
    sides = (cfg.model[side].backbone for side in ('architecture', 'teacher'))
    return tuple({k: v for k, v in side.items() if k not in own} for side in sides)


def _parameters(cfg: Config) -> int:
    """Numbers that the distillation trains."""
    distiller = MODELS.build(cfg.model).distiller
    return sum(p.numel() for p in distiller.parameters() if p.requires_grad)
