"""A training cut to a part of its length."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from mmengine.config import Config

from dpk_mm.errors import UsageError

_POINTS = ('begin', 'end', 'T_max', 'step_size', 'total_iters', 'total_steps')


def length_of(cfg: Config) -> int:
    """Epochs of a training.

    Raises:
        UsageError: If the config does not say them; one that counts iterations is not raced.
    """
    epochs = (cfg.get('train_cfg') or {}).get('max_epochs')
    if not epochs:
        raise UsageError(
            'the config has no train_cfg.max_epochs: give a whole training that counts epochs.'
        )
    return int(epochs)


def short_length(length: int, fraction: float) -> int:
    """Epochs of a part of a training, at least one.

    Raises:
        UsageError: If the fraction is out of range.
    """
    if not 0 < fraction <= 1:
        raise UsageError(f'a part of a training must be in (0, 1], but is {fraction:g}.')
    return max(1, round(length * fraction))


def check_rounds(cfg: Config, fractions: Sequence[float]) -> None:
    """Sees to it that each round of a race trains longer than the one before.

    Raises:
        UsageError: If one does not, such as two that are both rounded to one epoch.
    """
    length = length_of(cfg)
    lengths = [short_length(length, fraction) for fraction in fractions]
    if not lengths or any(a >= b for a, b in pairwise(lengths)):
        shown = ' '.join(f'{fraction:g}' for fraction in fractions)
        raise UsageError(
            f'--rounds {shown} of {length} epochs are {", ".join(map(str, lengths)) or "none"}: each round has to be '
            'longer than the one before; take larger parts, or fewer.'
        )


def shortened(cfg: Config, fraction: float) -> Config:
    """A training of ``fraction`` of the epochs, with all of its learning-rate schedule.

    The schedulers are scaled with it: a race of trainings that only broke off would be decided by the learning rate
    that they have at that time, or by the part of it that a warm-up of a loss takes. A scheduler that would not begin
    any more is left out. Validation and checkpoint come at the end alone.

    Args:
        cfg: Left unchanged.
        fraction: In (0, 1]; at least one epoch is left.

    Raises:
        UsageError: If the fraction is out of range.
    """
    cfg = copy.deepcopy(cfg)
    length = length_of(cfg)
    short = short_length(length, fraction)
    factor = short / length
    cfg.train_cfg.max_epochs = short
    cfg.train_cfg.val_interval = short
    cfg.train_cfg.pop('val_begin', None)
    cfg.train_cfg.pop('dynamic_intervals', None)
    if 'param_scheduler' in cfg:
        cfg.param_scheduler = _scaled(cfg.param_scheduler, factor, short)
    _scale_warmups(cfg, factor)
    hooks = cfg.setdefault('default_hooks', {})
    checkpoint = dict(hooks.get('checkpoint') or dict(type='CheckpointHook'))
    for name in ('save_best', 'rule', 'save_begin'):
        checkpoint.pop(name, None)
    hooks['checkpoint'] = dict(checkpoint, interval=short, max_keep_ckpts=1)
    return cfg


def _scaled(schedulers: Any, factor: float, short: int) -> Any:
    """The schedulers of a config, cut: a dict, a list of them, or these by the name of an optimizer."""
    if not schedulers:
        return schedulers
    if isinstance(schedulers, dict) and 'type' not in schedulers:
        return {name: _scaled(value, factor, short) for name, value in schedulers.items()}
    several = isinstance(schedulers, (list, tuple))
    found = [_scaled_one(s, factor) for s in (schedulers if several else [schedulers])]
    found = [scheduler for scheduler in found if _begins(scheduler, short)]
    return found if several or not found else found[0]


def _scaled_one(scheduler: Any, factor: float) -> Any:
    scheduler = copy.deepcopy(scheduler)
    for point in _POINTS:
        value = scheduler.get(point)
        if isinstance(value, int) and value > 0:
            scheduler[point] = max(1, round(value * factor))
    if 'milestones' in scheduler:
        scheduler['milestones'] = [max(1, round(m * factor)) for m in scheduler['milestones']]
    return scheduler


def _begins(scheduler: Any, short: int) -> bool:
    """Whether a scheduler has time left before its end, or that of the training."""
    # how many iterations the training has is not known here
    ends = [scheduler.get('end'), short if scheduler.get('by_epoch', True) else None]
    return all(end is None or scheduler.get('begin', 0) < end for end in ends)


def _scale_warmups(cfg: Config, factor: float) -> None:
    """Warm-ups of losses, which count passes over the training data, in place."""
    losses = ((cfg.get('model') or {}).get('distiller') or {}).get('distill_losses') or {}
    for loss in losses.values():
        if isinstance(loss, dict) and loss.get('warmup'):  # None: taken out
            loss['warmup'] = max(1, round(loss['warmup'] * factor))
