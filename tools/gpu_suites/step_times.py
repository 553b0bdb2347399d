"""Part c: time and peak memory of whole steps, full size, on random images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config

from ..benchmark_suites.batches import is_detector, make_batch
from ..benchmark_suites.mmrazor_losses import mmrazor_config
from ..benchmark_suites.sizes import variants as sizes_of
from ..benchmark_suites.sizes import with_size
from ..benchmark_suites.steps import (
    MMRAZOR_METHODS,
    baseline,
    floor_case,
    load_config,
    train_case,
)
from .record import Options, Record
from .turns import take_turns

ROOT = Path(__file__).resolve().parents[2]
FLOOR = 'floor (student step + teacher forward)'
BASELINE = 'student alone'


class Setup(NamedTuple):
    """A config with DPK, the same pair with FGD, and a batch."""

    dpk: str
    fgd: str
    batch_size: int
    image_size: tuple[int, int]
    amp: str | None = None


FULL = (
    Setup('dpk/faster_rcnn_r152_r50', 'fgd/faster_rcnn_r152_r50', 2, (800, 1344)),
    Setup('dpk/imagenet/resnet34_resnet18', '', 256, (224, 224)),
    Setup('dpk/retinanet_r101_r50', 'fgd/retinanet_r101_r50', 2, (800, 1344)),
    Setup('dpk/imagenet/resnet34_resnet18', '', 256, (224, 224), 'bfloat16'),
)
TINY = (
    Setup('mini/faster_rcnn_dpk', 'mini/faster_rcnn_fgd', 1, (64, 64)),
    Setup('mini/fashion_cnn_dpk', '', 4, (28, 28)),
)


def _config(name: str) -> Config:
    return load_config(str(ROOT / 'configs' / f'{name}.py'))


def configs_of(setup: Setup, tiny: bool = False) -> dict[str, Callable[[], Config]]:
    """What is compared, besides the student alone and the floor."""
    cfg = _config(setup.dpk)
    if not is_detector(cfg):
        return {name: partial(lambda c: c, c) for name, c in sizes_of(cfg).items()}
    found: dict[str, Callable[[], Config]] = {
        'FGD': partial(_config, setup.fgd),
        'DPK large + FGD': partial(_config, setup.dpk),
        'DPK small + FGD': partial(with_size, cfg, 'small'),
    }
    channels = tuple(cfg.model[side].neck.out_channels for side in ('architecture', 'teacher'))
    for method in MMRAZOR_METHODS[: 1 if tiny else None]:
        found[f"mmrazor's {method}"] = partial(mmrazor_config, cfg, method, channels)
    return found


def run(options: Options, record: Record) -> None:
    """A group of rows for each setup, each with an equal share of the time."""
    setups = TINY if options.tiny else FULL
    for number, setup in enumerate(setups):
        seconds = record.left / (len(setups) - number)
        what = f'{setup.dpk}, {setup.batch_size} x {setup.image_size[1]} x {setup.image_size[0]}'
        what += f', {setup.amp or "float32"}'
        with record.attempt(what=what, case='set up') as row:
            cfg = _config(setup.dpk)
            data = on_device(make_batch(cfg, setup.batch_size, setup.image_size), options.device)
            common: dict[str, Any] = dict(data=data, device=options.device, amp=setup.amp)
            builds = {
                FLOOR: partial(floor_case, cfg, **common),
                BASELINE: partial(train_case, baseline(cfg), **common),
            }
            for name, build in configs_of(setup, options.tiny).items():
                builds[name] = partial(_case, build, **common)
            row['cases'] = len(builds)
            rounds = 1 if options.tiny else 10
            take_turns(record, what, builds, options.device, rounds, 0.6 * seconds)
        if options.device == 'cuda':
            torch.cuda.empty_cache()


def _case(build: Callable[[], Config], **common: Any) -> Any:
    return train_case(build(), mask_ratio=0.5, **common)


def on_device(data: dict[str, Any], device: str) -> dict[str, Any]:
    """The images on the device: a step is timed, not the copy of a batch."""
    inputs = data['inputs']
    moved = (
        [image.to(device) for image in inputs] if isinstance(inputs, list) else inputs.to(device)
    )
    return dict(data, inputs=moved)
