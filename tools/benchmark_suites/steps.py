"""Whole training steps: the student's own (the baseline), the floor, and what distillation adds."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, init_default_scope
from mmrazor.registry import MODELS
from torch import nn

from dpk_mm.engine.hooks.mask_ratio_hook import MaskRatioHook
from dpk_mm.models.loss_parts.warmup import Warmup
from dpk_mm.models.losses import DPKLoss

from .batches import is_detector, make_batch
from .mmrazor_losses import mmrazor_config
from .rows import Row, rows_of
from .timing import Case, interleave, peak_memory

MMRAZOR_METHODS = ('PKD', 'CWD', 'MGD', 'FBKD')


def load_config(filename: str) -> Config:
    """A config whose weights are neither looked for nor downloaded: time does not depend on them."""
    cfg = Config.fromfile(filename)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    if 'teacher_ckpt' in cfg.model:
        cfg.model.teacher_ckpt = None
    return cfg


def names_of(filenames: Sequence[str]) -> dict[str, str]:
    """Short name -> file: the file's own name, with its folder, or its whole path, where several have the same.

    A file that is named twice is there once.
    """
    paths = {os.path.abspath(name): name for name in filenames}
    found = {}
    for path, filename in paths.items():
        taken = [name for other in paths if other != path for name in _possible_names(other)]
        found[next(name for name in _possible_names(path) if name not in taken)] = filename
    return found


def _possible_names(path: str) -> tuple[str, str, str]:
    file = Path(path)
    return file.stem, f'{file.parent.name}/{file.stem}', path


def build_step(
    cfg: Config, device: str, amp: str | None = None, mask_ratio: float | None = None
) -> tuple[nn.Module, Any]:
    """Model and optimizer of a config, ready for ``train_step``.

    Args:
        cfg: From :func:`load_config`.
        device: 'cpu' or 'cuda'.
        amp: None, 'float16' or 'bfloat16'; a CPU has bfloat16 alone.
        mask_ratio: Clamps the ratio to this one; the similarity is still computed.

    Returns:
        The model in training mode, and its optimizer wrapper.
    """
    model = MODELS.build(cfg.model).to(device).train()
    for module in model.modules():
        if isinstance(getattr(module, 'warmup', None), Warmup):
            module.warmup.done = module.warmup.passes  # over, as in most of a training
    bind_mask_ratio(model, cfg, mask_ratio)
    wrapper = copy.deepcopy(cfg.optim_wrapper)
    if amp:
        for part in [wrapper, *(v for v in wrapper.values() if _is_part(v))]:
            if device.startswith('cuda'):
                scale = 'dynamic' if amp == 'float16' else 1.0
                part.update(type='AmpOptimWrapper', dtype=amp, loss_scale=scale)
            else:
                part.update(type='mmrazor.CPUAmpOptimWrapper')  # bfloat16
    optimizer = build_optim_wrapper(model, wrapper)
    for groups in _groups(optimizer):
        for group in groups:
            # without a warm-up, one batch again and again can end in NaN; the time of a step is the same
            group['lr'] = 1e-3 * group['lr']
    return model, optimizer


def _groups(optimizer: Any) -> list[list[dict]]:
    wrappers = optimizer.values() if hasattr(optimizer, 'values') else [optimizer]
    return [wrapper.param_groups for wrapper in wrappers]


def bind_mask_ratio(model: nn.Module, cfg: Config, mask_ratio: float | None = None) -> None:
    """Gives every ``DPKLoss`` the policy of the config's hook, as the hook does before training.

    Args:
        model: A distillation.
        cfg: Its config.
        mask_ratio: Clamps the ratio to this one.
    """
    for hook_cfg in mask_ratio_hooks(cfg):
        hook = HOOKS.build(hook_cfg)
        assert isinstance(hook, MaskRatioHook)
        policy = hook.policy
        if mask_ratio is not None:
            policy.min_ratio = policy.max_ratio = mask_ratio
        for module in model.modules():
            if isinstance(module, DPKLoss):
                module.mask_ratio = policy


def mask_ratio_hooks(cfg: Config) -> list[Any]:
    """The configs of the hooks that set mask ratios, wherever they stand."""
    hooks = [*cfg.get('default_hooks', {}).values(), *cfg.get('custom_hooks', [])]
    return [hook for hook in hooks if hook is not None and 'MaskRatio' in hook['type']]


def _is_part(value: Any) -> bool:
    return isinstance(value, Mapping) and 'optimizer' in value


def baseline(cfg: Config) -> Config:
    """The student of a distillation config, with its part of the optimizer."""
    out = copy.deepcopy(cfg)
    out.model = cfg.model.architecture
    out.custom_hooks = []
    out.optim_wrapper = _student_optimizer(cfg)
    return out


def _student_optimizer(cfg: Config) -> ConfigDict:
    """The optimizer wrapper of the student alone, with the settings that it shares with the distiller."""
    wrapper: dict[str, Any] = dict(copy.deepcopy(cfg.optim_wrapper))
    if not _is_part(wrapper.get('architecture')):
        return ConfigDict(wrapper)
    own = wrapper.pop('architecture')
    for key in ('constructor', 'distiller'):
        wrapper.pop(key, None)
    return ConfigDict({**wrapper, **own})


def with_losses(cfg: Config, names: Sequence[str], stages: Sequence[str] | None = None) -> Config:
    """A distillation config reduced to some of its losses, and a ``DPKLoss`` to some stages."""
    out = copy.deepcopy(cfg)
    distiller = out.model.distiller
    for key in {'distill_losses', 'loss_forward_mappings'} & set(distiller):
        distiller[key] = {k: v for k, v in distiller[key].items() if k in names}
    for loss in distiller.distill_losses.values():
        if stages is not None and 'transforms' in loss:
            loss.transforms = {k: v for k, v in loss.transforms.items() if k in stages}
    # without modules of its own the distiller has nothing to optimize
    if not any('transforms' in v for v in distiller.distill_losses.values()):
        out.custom_hooks = []
        out.optim_wrapper = _student_optimizer(cfg)
    return out


def dpk_stages(cfg: Config) -> list[str]:
    """Stages of the ``DPKLoss`` of a config, in order."""
    for loss in cfg.model.distiller.distill_losses.values():
        if 'transforms' in loss:
            return [name for name, value in loss.transforms.items() if value is not None]
    return []


def _variants(cfg: Config, compare: Sequence[str], mmrazor_losses: bool) -> dict[str, Config]:
    """What a config is compared with, besides the baseline and the floor."""
    variants: dict[str, Config] = {}
    losses = cfg.model.distiller.distill_losses
    dpk = [name for name, loss in losses.items() if 'transforms' in loss]
    others = [name for name in losses if name not in dpk]
    stages = dpk_stages(cfg)
    if others and dpk:
        variants[', '.join(others) + ' only'] = with_losses(cfg, others)
    if len(stages) > 1:
        variants[f'DPK, {stages[-1]}'] = with_losses(cfg, list(losses), stages[-1:])
    variants[f'DPK, {" and ".join(stages)}' if stages else 'this config'] = cfg
    for name, filename in names_of(compare).items():
        variants[name] = load_config(filename)
    if mmrazor_losses and is_detector(cfg) and 'neck' in cfg.model.architecture:
        channels = tuple(cfg.model[side].neck.out_channels for side in ('architecture', 'teacher'))
        for method in MMRAZOR_METHODS:
            variants[f"mmrazor's {method}"] = mmrazor_config(cfg, method, channels)
    return variants


def train_case(cfg: Config, data: dict, device: str, **kwargs: Any) -> Case:
    """A training step of a config; further arguments of :func:`build_step`."""
    model, optimizer = build_step(cfg, device, **kwargs)
    return lambda: model.train_step(data, optimizer)


def floor_case(cfg: Config, data: dict, device: str, amp: str | None) -> Case:
    """The student's step and the teacher's forward pass: nothing that distils can be faster."""
    student, optimizer = build_step(baseline(cfg), device, amp)
    teacher = MODELS.build(cfg.model.teacher).to(device).eval()
    dtype = getattr(torch, amp) if amp else torch.float32

    def case() -> None:
        # once, as a distillation does
        ready = student.data_preprocessor(data, True)
        inputs = ready['inputs']
        with torch.no_grad(), torch.autocast(torch.device(device).type, dtype, enabled=bool(amp)):
            if is_detector(cfg):
                teacher.extract_feat(inputs)
            else:
                teacher(inputs, mode='tensor')
        # the rest of ``train_step``
        with optimizer.optim_context(student):
            losses, _ = student.parse_losses(student(**ready, mode='loss'))
        optimizer.update_params(losses)

    return case


def steps(
    filename: str,
    rounds: int,
    device: str | None = None,
    batch_size: int | None = None,
    image_size: tuple[int, int] | None = None,
    boxes_per_image: int = 10,
    amp: str | None = None,
    mask_ratio: float | None = 0.5,
    compare: Sequence[str] = (),
    mmrazor_losses: bool = True,
    suite: str = 'step',
    target: str = '',
    warmup: int = 2,
    with_memory: bool = True,
) -> list[Row]:
    """Times whole training steps of a config and what it is compared with, on one batch.

    Args:
        filename: A distillation config.
        rounds: Counted steps of each case.
        device: 'cpu' or 'cuda'; CUDA if there is one.
        batch_size: N; the config's if None.
        image_size: (height, width); what the config's transforms give if None.
        boxes_per_image: Of a detector.
        amp: None, 'float16' or 'bfloat16'.
        mask_ratio: The ratio of all stages, since the time depends on it; None leaves it free.
        compare: Files of other configs.
        mmrazor_losses: Whether mmrazor's own losses take part, on detectors.
        suite: Name in the rows.
        target: Target text of this config.
        warmup: Steps of each case before the counted ones.
        with_memory: Whether one more step of each case is run for its peak memory.

    Returns:
        Rows; ratios are against the floor.
    """
    device = device or get_device()
    cfg = load_config(filename)
    data = make_batch(
        cfg,
        batch_size or cfg.train_dataloader.batch_size,
        image_size or default_image_size(cfg),
        boxes_per_image,
    )
    floor = 'student step + teacher forward (floor)'
    cases: dict[str, Case] = {
        floor: floor_case(cfg, data, device, amp),
        'baseline (student without a teacher)': train_case(baseline(cfg), data, device, amp=amp),
    }
    variants = _variants(cfg, compare, mmrazor_losses)
    for name, variant in variants.items():
        cases[name] = train_case(variant, data, device, amp=amp, mask_ratio=mask_ratio)
    timings = interleave(cases, rounds, warmup, device)
    memory = {n: peak_memory(c, device) for n, c in cases.items()} if with_memory else None
    ours = next((n for n in variants if variants[n] is cfg), '')
    return rows_of(suite, timings, floor, memory, {ours: target})


def default_image_size(cfg: Config) -> tuple[int, int]:
    """(height, width) that the training pipeline of a config gives, as far as it says so."""
    for transform in reversed(cfg.train_pipeline if 'train_pipeline' in cfg else []):
        scale = transform.get('scale', transform.get('crop_size', transform.get('size')))
        if isinstance(scale, int):
            return scale, scale
        if scale is not None:
            return int(scale[1]), int(scale[0])
    return 224, 224
