"""Epochs, batch size, learning rate and loaders of a zoo config on another machine."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict

from ...errors import UsageError
from ...models.pairing import Row

#: Share of a training that warm-up iterations may take.
_WARMUP_SHARE = 0.1
#: The fewest steps of a warm-up: with one, mmengine leaves the learning rate where it begins for all of the training.
_LEAST_WARMUP = 2
#: Schedules that begin with a part of the learning rate, and give it back with their last step.
_RISING = ('LinearLR', 'ConstantLR')
#: What mmengine's schedules take for no end.
_NO_END = 10**9


def set_batch(cfg: Config, batch_size: int | None, lr: float | None, gpus: int = 1) -> list[Row]:
    """Batch size of training and, in proportion, the learning rate, in place.

    Args:
        cfg: Of a plain model.
        batch_size: Images of one GPU (or of the CPU); None for that of the config.
        lr: Learning rate that is used as it is; None for that of the config, scaled.
        gpus: Processes.

    Returns:
        What was chosen.
    """
    rows = []
    loader = cfg.train_dataloader
    old = loader.get('batch_size', 1)
    if batch_size is not None and batch_size != old:
        loader.batch_size = batch_size
        rows.append(
            Row(
                'train_dataloader.batch_size', str(batch_size), f'--batch-size; {old} in its config'
            )
        )
    whole = loader.get('batch_size', 1) * gpus
    meant = _meant_batch(cfg)
    optimizer = cfg.optim_wrapper.get('optimizer')
    given = optimizer.get('lr') if isinstance(optimizer, dict) else None
    if given is None:
        if lr is not None:
            raise UsageError(f'--lr {lr}: {cfg.filename} has no optim_wrapper.optimizer.lr.')
        return rows
    new = lr if lr is not None else given * whole / (meant or whole)
    if new != given:
        new = float(f'{new:.3g}')
        _scale_ends(cfg, new / given)
        optimizer.lr = new
        why = f'--lr; {given:g} in its config'
        if lr is None:
            why = f'{given:g} in its config is meant for {meant} images a step, and here there are {whole}'
        rows.append(Row('optim_wrapper.optimizer.lr', f'{new:g}', why))
    # what --auto-scale-lr of tools/train.py goes by: the learning rate is that of this batch now
    cfg.auto_scale_lr = dict(enable=False, base_batch_size=whole)
    return rows


def set_epochs(cfg: Config, epochs: int | None, images: int | None, gpus: int = 1) -> list[Row]:
    """Length of training, with everything that goes by it, in place.

    Milestones, ends of schedules, and hooks that switch something towards the end are scaled in proportion. An epoch is
    one pass: a data set that repeats its images does so no more.

    Args:
        cfg: Of a plain model.
        epochs: Passes over the training data; None for the length that the config has.
        images: Training images, where known.
        gpus: Processes, each with a batch of its own.

    Returns:
        What was chosen.

    Raises:
        UsageError: If the loop counts iterations, and the number of images is not known; or if a schedule begins where
            it or the training is over.
    """
    rows: list[Row] = []
    loop = cfg.train_cfg
    by_epoch = 'max_epochs' in loop
    step = cfg.train_dataloader.get('batch_size', 1) * gpus
    steps = None if images is None else -(-images // step)
    repeating = _repeating(cfg.train_dataloader.get('dataset') or {}) if by_epoch else []
    if epochs is not None and repeating:
        old = ', '.join(f'{dataset["times"]}' for dataset in repeating)
        for dataset in repeating:
            dataset['times'] = 1
        rows.append(Row('times of the data set', '1', f'--epochs are passes; {old} in its config'))
    if epochs is not None:
        key = 'max_epochs' if by_epoch else 'max_iters'
        if not by_epoch and steps is None:
            raise UsageError(
                f'--epochs {epochs}: {cfg.filename} counts iterations and the number of training images is not known: '
                'add --data, or set train_cfg.max_iters with --cfg-options.'
            )
        new = epochs if by_epoch else epochs * (steps or 1)
        old = loop[key]
        if new != old:
            _scale_schedule(cfg, new / old, by_epoch)
            loop[key] = new
            if 'dynamic_intervals' in loop:  # validations at the end, counted in the zoo's epochs
                loop.dynamic_intervals = None
            interval = 1 if by_epoch else steps
            loop.val_interval = max(interval or 1, min(loop.get('val_interval', 1), new // 10))
            _cap_checkpoints(cfg, max(interval or 1, new // 10), by_epoch)
            why = f'--epochs; {old} in its config, and milestones are moved in proportion'
            rows.append(Row(f'train_cfg.{key}', str(new), why))
    whole = None if steps is None else loop.get('max_iters')
    if steps is not None and by_epoch:
        times = math.prod(dataset['times'] for dataset in repeating)
        whole = loop['max_epochs'] * -(-images * times // step)
    if whole is not None:
        rows += _shorten_warmup(cfg, whole)
    check_begins(cfg, None if whole is None else lambda: whole)
    return rows


def check_begins(cfg: Config, iterations: Callable[[], int] | None = None) -> None:
    """Refuses a schedule that begins where it or the training is over, as mmengine does when the training starts.

    Args:
        cfg: A config.
        iterations: Gives those of the whole training, where the loop counts epochs; asked only if a schedule goes by
            them. None if they are not known.

    Raises:
        UsageError: If there is such a schedule.
    """
    loop = cfg.get('train_cfg') or {}
    for scheduler in _schedulers(cfg):
        by_epoch, begin = scheduler.get('by_epoch', True), scheduler.get('begin', 0)
        end = scheduler.get('end')
        if begin and end is None:
            # a loop of iterations is one epoch for mmengine
            end = loop.get('max_epochs', 1) if by_epoch else loop.get('max_iters')
            if end is None and iterations is not None:
                end = iterations()
        if begin and end is not None and begin >= end:
            unit = 'epoch' if by_epoch else 'iteration'
            raise UsageError(
                f'{cfg.filename or "the config"}: {scheduler.type} of param_scheduler begins at {unit} {begin}, where '
                f'it or the training is over (at {end}): train for more epochs, or let it begin earlier.'
            )


def set_ends(cfg: Config, unknown: bool = True) -> None:
    """Writes out, in place, where schedules end that go on to the end of the training.

    mmengine takes the length of the loop for it. One that is cut afterwards would end schedules with it, or before
    they begin.

    Args:
        cfg: A config.
        unknown: Whether a schedule that counts what the loop does not, iterations in a training of epochs, gets an end
            that never comes; else it is left to mmengine, which knows the batches of an epoch.
    """
    loop = cfg.get('train_cfg') or {}
    for scheduler in _schedulers(cfg):
        unit = 'max_epochs' if scheduler.get('by_epoch', True) else 'max_iters'
        if scheduler.get('end') is None and (unknown or unit in loop):
            scheduler.end = loop.get(unit, _NO_END)


def set_machine(cfg: Config, workers: int | None, cuda: bool | None = None) -> list[Row]:
    """Loader processes, and mixed precision without a GPU, in place.

    Args:
        cfg: Of a plain model.
        workers: Processes of each data loader; by default not more than there are cores to spare.
        cuda: Whether there is a GPU; by default it is looked at.
    """
    rows = []
    cuda = torch.cuda.is_available() if cuda is None else cuda
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    )
    for name in ('train', 'val', 'test'):
        loader = cfg.get(f'{name}_dataloader')
        if loader is None:
            continue
        old = loader.get('num_workers', 0)
        new = min(old, max(1, cores - 1)) if workers is None else workers
        if new != old:
            loader.num_workers = new
            if name == 'train':
                why = (
                    '--workers'
                    if workers is not None
                    else f'{cores} cores here; {old} in its config'
                )
                rows.append(Row('num_workers', str(new), why))
        if new == 0 and loader.get('persistent_workers'):
            loader.persistent_workers = False
    wrapper = cfg.get('optim_wrapper') or {}
    if not cuda and str(wrapper.get('type', '')).endswith('AmpOptimWrapper'):
        cfg.optim_wrapper = ConfigDict(
            {k: v for k, v in wrapper.items() if k not in ('loss_scale', 'dtype', 'use_fsdp')},
            type='OptimWrapper',
        )
        rows.append(
            Row(
                'optim_wrapper.type',
                'OptimWrapper',
                'mixed precision needs a GPU, and there is none here',
            )
        )
    return rows


def _meant_batch(cfg: Config) -> int | None:
    """For how many images a step the learning rate of a config is meant; None if nothing says it.

    The name of a zoo config (``8xb32``) goes first: ``auto_scale_lr`` is inherited, and often that of a base.
    """
    name = Path(str(cfg.filename or '')).stem
    match = re.search(r'(?:^|[_-])(\d+)xb(\d+)(?=[_-]|$)', name)
    if match:
        return int(match[1]) * int(match[2])
    stated = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    return int(stated) if stated else None


def _scale_ends(cfg: Config, factor: float) -> None:
    """The learning rates at which schedules end, which are numbers of their own."""
    for scheduler in _schedulers(cfg):
        if isinstance(scheduler.get('eta_min'), (int, float)):
            scheduler.eta_min = float(f'{scheduler.eta_min * factor:.3g}')


def _scale_schedule(cfg: Config, factor: float, by_epoch: bool) -> None:
    for scheduler in _schedulers(cfg):
        if bool(scheduler.get('by_epoch', True)) != by_epoch:
            continue
        for key in (
            'begin',
            'end',
            'T_max',
            'milestones',
            'step_size',
            'total_iters',
            'total_steps',
        ):
            value = scheduler.get(key)
            if isinstance(value, (list, tuple)):
                scheduler[key] = [max(1, round(v * factor)) for v in value]
            elif isinstance(value, int) and value > 0:
                scheduler[key] = max(0 if key == 'begin' else 1, round(value * factor))
        if scheduler.get('begin', 0) >= (scheduler.get('end') or float('inf')):
            scheduler.begin = max(0, scheduler.end - 1)
        if str(scheduler.get('type')).endswith(_RISING) and scheduler.get('end'):
            scheduler.end = max(scheduler.end, scheduler.get('begin', 0) + _LEAST_WARMUP)
        if (
            'milestones' in scheduler
        ):  # two that fell together would be one step of twice the height
            scheduler.milestones = sorted(set(scheduler.milestones))
    for hook in cfg.get('custom_hooks') or ():
        for key in ('switch_epoch', 'num_last_epochs', 'stop_epoch'):
            if isinstance(hook, dict) and isinstance(hook.get(key), int) and by_epoch:
                hook[key] = max(1, round(hook[key] * factor))
        recipes = hook.get('schedule') if isinstance(hook, dict) else None
        if by_epoch and isinstance(recipes, list) and all(map(_is_recipe, recipes)):
            hook['schedule'] = _scaled_recipes(recipes, factor)


def _is_recipe(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get('action_epoch'), int)


def _scaled_recipes(recipes: list[Any], factor: float) -> list[Any]:
    """``schedule`` of mmpretrain's ``SwitchRecipeHook``, which switches before an epoch and counts them from 1."""
    scaled: dict[int, Any] = {}
    for recipe in sorted(recipes, key=lambda recipe: recipe['action_epoch']):
        epoch = 1 + round((recipe['action_epoch'] - 1) * factor)
        # the hook takes one for each epoch; of two that fall together the later goes over the earlier
        scaled[epoch] = ConfigDict({**scaled.get(epoch, {}), **recipe, 'action_epoch': epoch})
    return list(scaled.values())


def _cap_checkpoints(cfg: Config, most: int, by_epoch: bool) -> None:
    """A training that is stopped goes on from its last checkpoint, which a short one would have only at its end."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint')
    if isinstance(hook, dict) and bool(hook.get('by_epoch', True)) == by_epoch:
        hook['interval'] = min(hook.get('interval', -1), most)


def _repeating(dataset: Any) -> list[Any]:
    """The data sets that give their images several times in an epoch, from the outermost on."""
    found = [dataset] if 'times' in dataset and 'dataset' in dataset else []
    inner = [dataset.get('dataset'), *(dataset.get('datasets') or ())]
    return [
        *found,
        *(found for part in inner if isinstance(part, dict) for found in _repeating(part)),
    ]


def _shorten_warmup(cfg: Config, whole: int) -> list[Row]:
    rows = []
    for scheduler in _schedulers(cfg):
        most = max(_LEAST_WARMUP, int(_WARMUP_SHARE * whole))
        if _is_warmup(scheduler) and scheduler.end > most:
            rows.append(
                Row(
                    'warm-up',
                    f'{most} iterations',
                    f'a tenth of the {whole} iterations; {scheduler.end} in its config',
                )
            )
            _move_begins(cfg, scheduler.end, most)
            scheduler.end = most
    return rows


def _move_begins(cfg: Config, old: int, new: int) -> None:
    """Schedules of iterations that begin where the warm-up ended."""
    for scheduler in _schedulers(cfg):
        if scheduler.get('by_epoch', True) or scheduler.get('begin') != old:
            continue
        scheduler.begin = new
        # these are counted from the begin on, and what they stand for stays where it is
        if isinstance(scheduler.get('T_max'), int):
            scheduler.T_max += old - new
        if 'milestones' in scheduler:
            scheduler.milestones = [step + old - new for step in scheduler.milestones]


def _is_warmup(scheduler: Any) -> bool:
    by_iteration = scheduler.get('by_epoch', True) is False and not scheduler.get('begin')
    rising = any(kind in str(scheduler.get('type')) for kind in _RISING)
    return by_iteration and rising and bool(scheduler.get('end'))


def _schedulers(cfg: Config) -> Iterator[Any]:
    found = cfg.get('param_scheduler') or ()
    for scheduler in [found] if isinstance(found, dict) else found:
        if isinstance(scheduler, dict) and 'type' in scheduler:
            yield scheduler
