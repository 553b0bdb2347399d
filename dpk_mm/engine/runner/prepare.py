"""The options of ``tools/train.py`` and ``tools/test.py``, applied to a config."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.dist import is_main_process

from ...checkpoint.resume import has_checkpoint, is_first_rank
from ...checkpoint.student_config import student_config
from ...checkpoint.type_names import type_name
from ...errors import UsageError
from .tta import enable_tta

PICKLE_SUFFIXES = ('.pkl', '.pickle')
#: What the names of configs end in that a test leaves in its work folder.
TEST_SUFFIX = '_test.py'


def prepare_config(
    cfg: Config,
    *,
    launcher: str = 'none',
    resume: str | None = None,
    amp: bool | str = False,
    auto_scale_lr: bool = False,
    teacher_ckpt: str | None = None,
    no_validate: bool = False,
    no_pin_memory: bool = False,
    no_persistent_workers: bool = False,
) -> Config:
    """Applies the options of ``tools/train.py`` to a config, in place.

    Args:
        cfg: What :func:`load_config` returned.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        resume: ``'auto'`` for the newest checkpoint in the work folder, or a checkpoint file. Where the folder has
            none, a config with ``load_from`` starts from that.
        amp: Whether to train in mixed precision: True is float16 with a dynamic loss scale unless
            the config names another ``dtype``; ``'fp16'`` is that by name; ``'bf16'`` is bfloat16 without
            a loss scale, also without a GPU.
        auto_scale_lr: Whether to scale the learning rate with the batch size.
        teacher_ckpt: The teacher's checkpoint, a file or a URL.
        no_validate: Whether to train without validation.
        no_pin_memory: Whether the data loaders leave their batches in memory that can be paged out.
        no_persistent_workers: Whether the workers of data loaders end with an epoch.

    Returns:
        ``cfg``.

    Raises:
        UsageError: If an option does not fit the config or the machine.
    """
    cfg.launcher = launcher
    _drop_removed_hooks(cfg)
    loop = cfg.get('val_cfg') or {}
    if type_name(loop.get('type')) == 'SingleTeacherDistillValLoop':
        # by name, which is ours then (engine/hooks/upstream_check_hook.py), where a config of Python has the class
        loop['type'] = 'mmrazor.SingleTeacherDistillValLoop'
    if teacher_ckpt is not None:
        if 'teacher' not in (cfg.get('model') or {}):
            raise UsageError(
                f'--teacher-ckpt was given, but {cfg.filename} has no model.teacher: leave the '
                'option out, or give a distillation config, see configs/dpk/.'
            )
        if '://' not in teacher_ckpt and not Path(teacher_ckpt).is_file():
            raise UsageError(f'--teacher-ckpt: there is no file {teacher_ckpt}')
        cfg.model.teacher_ckpt = teacher_ckpt
    if amp:
        _enable_amp(cfg, amp)
    _without_amp_on_cpu(cfg)
    if auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise UsageError(
                f'--auto-scale-lr was given, but {cfg.filename} does not say for which batch size '
                'its learning rate is meant: add auto_scale_lr = dict(base_batch_size=16), with '
                'your number.'
            )
        cfg.auto_scale_lr.enable = True
    if resume is not None:
        if resume != 'auto' and '://' not in resume and not Path(resume).is_file():
            raise UsageError(
                f'--resume: there is no checkpoint {resume}; --resume without a file takes the '
                f'newest one in {cfg.work_dir}'
            )
        start = cfg.get('load_from')
        # mmengine has one setting for both: what is resumed from would take the place of the starting weights.
        if resume == 'auto' and start and not has_checkpoint(cfg.work_dir):
            cfg.resume = False
            if is_first_rank():
                print(
                    f'--resume: there is no checkpoint in {cfg.work_dir}: the training starts anew, from load_from = '
                    f'{start} of the config.',
                    file=sys.stderr,
                )
        else:
            cfg.resume = True
            cfg.load_from = None if resume == 'auto' else resume
    _check_starts(cfg)
    _check_schedulers(cfg)
    if no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        _check_needs_no_validation(cfg)
    _fill_dataloaders(cfg, no_pin_memory, no_persistent_workers)
    return cfg


def prepare_test_config(
    cfg: Config,
    *,
    launcher: str = 'none',
    out: str | None = None,
    show: bool = False,
    show_dir: str | None = None,
    wait_time: float = 2,
    interval: int = 1,
    out_item: str | None = None,
    tta: bool = False,
    amp: bool = False,
    no_pin_memory: bool = False,
) -> Config:
    """Reduces a config to its student and applies the options of ``tools/test.py``.

    Args:
        cfg: What :func:`load_config` returned.
        launcher: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        out: File of ``--out``; only its name is checked here.
        show: Whether to show the predictions in windows.
        show_dir: Folder for pictures of the predictions, or None.
        wait_time: Seconds for which each window stays.
        interval: One of so many images is drawn; for classifiers only.
        out_item: ``'pred'`` or ``'metrics'``: what ``out`` is to hold.
        tta: Whether to test on changed images as well, see :func:`enable_tta`.
        amp: Whether to test in mixed precision (float16); needs a GPU.
        no_pin_memory: As for :func:`prepare_config`.

    Returns:
        A new config that needs neither teacher nor distiller.

    Raises:
        UsageError: If the config cannot be tested, or an option does not fit it.
    """
    _check_out(out, out_item)
    if cfg.get('test_dataloader') is None:
        raise UsageError(f'{cfg.filename} has no test_dataloader, so there is nothing to test on.')
    cfg = student_config(cfg)
    _drop_removed_hooks(cfg)
    cfg.launcher = launcher
    # the tool loads the weights, all of them; the Runner would take what fits and go on
    cfg.load_from = None
    cfg.resume = False
    if show or show_dir:
        _enable_visualization(cfg, show, show_dir, wait_time, interval)
    if tta:
        enable_tta(cfg)
    if amp:
        if get_device() == 'cpu':
            # mmengine would take bfloat16, which the metrics cannot turn into numpy arrays
            raise UsageError('--amp needs a GPU, and there is none here: leave the option out.')
        cfg.test_cfg.fp16 = True
    _fill_dataloaders(cfg, no_pin_memory)
    return cfg


def named_for_test(cfg: Config) -> Config:
    """The config of a test under another name, ``NAME_test.py``: the Runner writes it to the work folder.

    By default that is the folder of the training, whose own config would be replaced by that of the student alone.

    Args:
        cfg: Of :func:`prepare_test_config`; it is left unchanged, and messages go on naming the file.
    """
    named = copy.copy(cfg)
    if cfg.filename is not None:
        path = Path(cfg.filename)
        object.__setattr__(named, '_filename', str(path.with_name(f'{path.stem}{TEST_SUFFIX}')))
    return named


def _check_starts(cfg: Config) -> None:
    """Two settings that give the student its first weights: the one that is loaded last would win."""
    if cfg.get('resume') or not cfg.get('load_from'):
        return
    for key in ('student_ckpt', 'inherit'):
        if (cfg.get('model') or {}).get(key):
            other = (
                ''
                if key == 'student_ckpt'
                else f', or give the file as model.student_ckpt={cfg.load_from}, which comes before inherit'
            )
            raise UsageError(
                f'load_from = {cfg.load_from} would replace the weights that model.{key} gives the student: '
                f'leave one of them out (--cfg-options load_from=None, or model.{key}=None){other}.'
            )


def _check_schedulers(cfg: Config) -> None:
    """A dict of schedules needs one for each part of the optimizer wrapper; mmengine raises a KeyError."""
    schedulers, wrapper = cfg.get('param_scheduler'), cfg.get('optim_wrapper')
    if not isinstance(schedulers, dict) or 'type' in schedulers or not isinstance(wrapper, dict):
        return
    prefix = 'optim_wrapper.'
    parts = [key.removeprefix(prefix) for key in _optim_wrappers(cfg) if key.startswith(prefix)]
    found = f'param_scheduler is a dict of {", ".join(schedulers) or "nothing"}'
    missing = [part for part in parts if part not in schedulers]
    if missing:
        raise UsageError(
            f'{found}, but optim_wrapper has the parts {", ".join(parts)}: add param_scheduler.{missing[0]}, a list of '
            'schedules, or [] for a constant learning rate; a list in place of the dict holds for all parts.'
        )
    if not parts and 'constructor' not in wrapper:
        raise UsageError(f'{found}, but optim_wrapper has one optimizer: give a list of schedules.')


def _check_needs_no_validation(cfg: Config) -> None:
    """A hook that acts on a metric would never act."""
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    if checkpoint.get('save_best'):
        raise UsageError(
            '--no-validate was given, but default_hooks.checkpoint.save_best needs the metrics of a validation: add '
            '--cfg-options default_hooks.checkpoint.save_best=None.'
        )


def _check_out(out: str | None, out_item: str | None) -> None:
    if out is None:
        if out_item is not None:
            raise UsageError(f'--out-item {out_item} was given without --out: add --out FILE.')
        return
    suffixes = {
        None: (*PICKLE_SUFFIXES, '.json'),
        'pred': PICKLE_SUFFIXES,
        'metrics': (*PICKLE_SUFFIXES, '.json', '.yaml', '.yml'),
    }[out_item]
    if not out.endswith(suffixes):
        if out_item is None:
            expected = 'a name ending in .pkl (predictions) or .json (metrics)'
        else:
            expected = f'for --out-item {out_item} a name ending in {", ".join(suffixes)}'
        raise UsageError(f'--out {out}: {expected} was expected.')


def _drop_removed_hooks(cfg: Config) -> None:
    """Takes out the default hooks that a config sets to None, which mmengine allows for its own six alone."""
    hooks = cfg.get('default_hooks') or {}
    own = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
    for name in [name for name, hook in hooks.items() if hook is None and name not in own]:
        del hooks[name]


def _enable_amp(cfg: Config, amp: bool | str) -> None:
    if amp not in (True, 'fp16', 'bf16'):
        raise UsageError(f'--amp {amp}: fp16 or bf16 was expected.')
    wrappers = _optim_wrappers(cfg)
    shared = cfg.optim_wrapper  # what stands beside several wrappers is the default of each
    for key, wrapper in wrappers.items():
        kind = type_name(wrapper.get('type', shared.get('type', 'OptimWrapper')))
        if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
            raise UsageError(
                f'--amp replaces {key}.type OptimWrapper, but {cfg.filename} has {kind}: leave the '
                'option out, or set up mixed precision in the config.'
            )
    on_cpu = get_device() == 'cpu'
    if on_cpu and amp != 'bf16':
        raise UsageError(
            '--amp needs a GPU, and there is none here: leave the option out, or take --amp bf16.'
        )
    settings: dict[str, Any] = dict(loss_scale=shared.get('loss_scale', 'dynamic'))
    if amp == 'bf16':
        # its range is that of float32, so nothing underflows
        settings = dict(dtype='bfloat16', loss_scale=dict(enabled=False))
    elif amp == 'fp16':
        settings['dtype'] = 'float16'
    for wrapper in wrappers.values():
        wrapper['type'] = 'AmpOptimWrapper'
        if amp != 'bf16' and 'loss_scale' in wrapper:
            wrapper.update({k: v for k, v in settings.items() if k != 'loss_scale'})
        else:
            wrapper.update(settings)
    if on_cpu:
        for wrapper in (*wrappers.values(), shared):
            wrapper.pop('dtype', None)
            wrapper.pop('loss_scale', None)
        for wrapper in wrappers.values():
            wrapper['type'] = 'mmrazor.CPUAmpOptimWrapper'


def _without_amp_on_cpu(cfg: Config) -> None:
    """mmengine's mixed precision needs a GPU: without one a config that asks for it trains in float32, and says so.

    bfloat16 needs no scaling of the gradients, and is kept.
    """
    if get_device() != 'cpu' or not isinstance(cfg.get('optim_wrapper'), dict):
        return
    # what stands beside several wrappers is the default of each
    for key, wrapper in {'optim_wrapper': cfg.optim_wrapper, **_optim_wrappers(cfg)}.items():
        if type_name(wrapper.get('type')) != 'AmpOptimWrapper':
            continue
        dtype = wrapper.pop('dtype', None)
        wrapper.pop('loss_scale', None)
        wrapper.type = 'mmrazor.CPUAmpOptimWrapper' if dtype == 'bfloat16' else 'OptimWrapper'
        if is_main_process():
            print(
                f'{key} is an AmpOptimWrapper, mixed precision that needs a GPU, and there is none here: '
                f'{wrapper.type} is used, {"bfloat16" if dtype == "bfloat16" else "float32"}.',
                file=sys.stderr,
            )


def _optim_wrappers(cfg: Config) -> dict[str, ConfigDict]:
    """The optimizer wrappers of a config by their keys: one, or those of a constructor of several."""
    whole = cfg.get('optim_wrapper')
    if not isinstance(whole, dict):
        raise UsageError(f'--amp was given, but {cfg.filename} has no optim_wrapper.')
    parts = {
        f'optim_wrapper.{key}': value
        for key, value in whole.items()
        if isinstance(value, dict) and 'optimizer' in value
    }
    return parts if parts and 'optimizer' not in whole else {'optim_wrapper': whole}


def _enable_visualization(
    cfg: Config, show: bool, show_dir: str | None, wait_time: float, interval: int
) -> None:
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise UsageError(
            f'--show and --show-dir need a hook that draws, but {cfg.filename} has none: add '
            "default_hooks = dict(visualization=dict(type='DetVisualizationHook')) for a detector, "
            "or type='VisualizationHook' for a classifier."
        )
    hook.show = show
    if type_name(hook.type).endswith('DetVisualizationHook'):
        if interval != 1:
            raise UsageError(
                f'--interval {interval}: DetVisualizationHook draws every image of a test; leave the option out, or '
                'test fewer images with --cfg-options test_dataloader.dataset.indices=100.'
            )
        hook.draw = True
        hook.wait_time = wait_time
        if show_dir:
            hook.test_out_dir = show_dir
    else:
        hook.enable = True
        hook.interval = interval
        hook.out_dir = show_dir
        if show:
            hook.wait_time = wait_time


def _fill_dataloaders(
    cfg: Config, no_pin_memory: bool = False, no_persistent_workers: bool = False
) -> None:
    """Sets what mmpretrain's configs leave to its tools; mmdet's configs say it themselves."""
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name)
        if loader is None:
            continue
        if cfg.get('default_scope') == 'mmpretrain':
            loader.setdefault('collate_fn', dict(type='default_collate'))
            loader.setdefault('pin_memory', torch.cuda.is_available())
            loader.setdefault('persistent_workers', loader.get('num_workers', 0) > 0)
        if no_pin_memory:
            loader.pin_memory = False
        if no_persistent_workers:
            loader.persistent_workers = False
