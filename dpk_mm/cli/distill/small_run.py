"""A config cut down to some batches, for a dry run and for measurements before a training."""

from __future__ import annotations

import copy
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from ...checkpoint.type_names import type_name
from .datasets import innermost
from .schedule import set_ends


def small_config(
    cfg: Config,
    batches: int,
    validate: int = 0,
    batch_size: int | None = None,
    spread: bool = False,
) -> Config:
    """A config of one epoch of some batches.

    Schedules, hooks, pipelines, networks and ``load_from`` stay as they are. A hook that switches something for the
    last epochs does it after as many epochs as in the training, and not in the one epoch that is left.

    Args:
        cfg: The config; it is not changed.
        batches: Of training.
        validate: Images of the validation; 0 for none.
        batch_size: Images of a batch; None for those of the config.
        spread: Whether the images of training are from all over the data set, which is read for it: the first ones of
            class folders are of one class.

    Returns:
        A new config.
    """
    cfg = copy.deepcopy(cfg)
    set_ends(cfg)
    loader = cfg.train_dataloader
    if batch_size is not None:
        loader.batch_size = min(batch_size, loader.get('batch_size', 1))
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        _cut(loader, batches * loader.get('batch_size', 1), spread)
    if _is_infinite(loader.get('sampler')):  # that of a loop of iterations: the epoch would not end
        loader.sampler = dict(type='DefaultSampler', shuffle=True)
    _keep_switches(cfg)
    # no loop of iterations either: schedules by epoch fit both
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=1)
    for name in ('val', 'test'):
        if validate:
            _cut(cfg[f'{name}_dataloader'], validate)
        elif name == 'val':
            cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    hooks = cfg.setdefault('default_hooks', {})
    hooks['checkpoint'] = dict(type='CheckpointHook', interval=1 if validate else 10**6)
    if not validate:
        hooks['checkpoint']['save_last'] = False
    hooks['logger'] = dict(type='LoggerHook', interval=1)
    cfg.resume = False
    return cfg


def _is_infinite(sampler: Any) -> bool:
    return isinstance(sampler, dict) and type_name(sampler.get('type')).startswith('Infinite')


def _keep_switches(cfg: Config) -> None:
    """Hooks that count the epochs from the end, such as YOLOX's, would take the one epoch for the last."""
    left_out = (cfg.get('train_cfg') or {}).get('max_epochs', 1) - 1
    for hook in cfg.get('custom_hooks') or ():
        if isinstance(hook, dict) and isinstance(hook.get('num_last_epochs'), int):
            hook['num_last_epochs'] -= left_out


def _cut(loader: Any, images: int, spread: bool = False) -> None:
    # in this process: starting others takes longer than to read some images
    loader.num_workers = 0
    loader.persistent_workers = False
    loader.pop('prefetch_factor', None)
    for dataset in innermost(loader.dataset):
        dataset['indices'] = _spread(dataset, images) if spread else images
    wrapper = loader.dataset
    while isinstance(wrapper.get('dataset'), dict):
        if 'times' in wrapper:
            wrapper['times'] = 1
        wrapper = wrapper['dataset']


def _spread(dataset: Any, images: int) -> int | list[int]:
    length = len(DATASETS.build(copy.deepcopy(dataset)))
    return images if length <= images else [n * length // images for n in range(images)]
