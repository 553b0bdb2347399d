"""What stands between a command line and mmengine's Runner, for the tools `train` and `test`.

The conventions (options, work folder, order of precedence) are those of mmdet's and mmpretrain's
tools.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import mmengine
import torch
import torch.distributed as dist
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.evaluator import DumpResults
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from .errors import TRACEBACK, UsageError
from .hooks.class_check_hook import ClassCheckHook
from .hooks.random_state_hook import make_resumable
from .student import student_config, unwrap

# Read by the Runner from the config, besides the arguments of its constructor.
RUNNER_KEYS = {
    *inspect.signature(Runner.__init__).parameters,
    *('activation_checkpointing', 'compile', 'custom_imports', 'efficient_conv_bn_eval'),
    *('find_unused_parameters', 'model_wrapper_cfg', 'runner_type', 'sync_bn'),
}
PICKLE_SUFFIXES = ('.pkl', '.pickle')


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that the training and the test tool share."""
    parser.add_argument('--work-dir', help='folder of logs and checkpoints')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings that replace those of the config, such as optim_wrapper.optimizer.lr=0.01 '
        'or key="[(a,b),(c,d)]" (with the quotation marks, without white space)',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch gives the first spelling or the second, by its version
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    parser.add_argument(
        '--traceback',
        action='store_true',
        help='show where in the code an error came from (as DPK_TRACEBACK=1 does)',
    )


def apply_common_arguments(args: argparse.Namespace) -> None:
    """Puts into the environment what of :func:`add_common_arguments` is read from there."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.traceback:
        os.environ[TRACEBACK] = '1'


def load_config(
    filename: str, options: Mapping[str, Any] | None = None, work_dir: str | None = None
) -> Config:
    """Reads a config and applies what the command line says about it.

    Args:
        filename: The config.
        options: Dotted keys and values of `--cfg-options`.
        work_dir: Folder of the run; else that of the config, else `./work_dirs/<name of the
            config>`.

    Returns:
        The config, with `work_dir` set.

    Raises:
        UsageError: If the file is not there, or a key of `options` is a typing error.
    """
    if not Path(filename).is_file():
        raise UsageError(f'there is no config {filename}: give the path of a config, see configs/')
    cfg = Config.fromfile(filename)
    for key in options or {}:
        _check_option(cfg, key)
    if options:
        cfg.merge_from_dict(dict(options))
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('./work_dirs', Path(filename).stem)
    return cfg


def prepare_config(
    cfg: Config,
    *,
    launcher: str = 'none',
    resume: str | None = None,
    amp: bool | str = False,
    auto_scale_lr: bool = False,
    teacher_ckpt: str | None = None,
) -> Config:
    """Applies the options of `tools/train.py` to a config, in place.

    Args:
        cfg: What :func:`load_config` returned.
        launcher: `'none'`, `'pytorch'`, `'slurm'` or `'mpi'`.
        resume: `'auto'` for the newest checkpoint in the work folder, or a checkpoint file.
        amp: Whether to train in mixed precision: True is float16 with a dynamic loss scale unless
            the config names another `dtype`; `'fp16'` is that by name; `'bf16'` is bfloat16 without
            a loss scale, also without a GPU.
        auto_scale_lr: Whether to scale the learning rate with the batch size.
        teacher_ckpt: The teacher's checkpoint, a file or a URL.

    Returns:
        `cfg`.

    Raises:
        UsageError: If an option does not fit the config or the machine.
    """
    cfg.launcher = launcher
    if teacher_ckpt is not None:
        if 'teacher' not in (cfg.get('model') or {}):
            raise UsageError(
                f'--teacher-ckpt was given, but {cfg.filename} has no model.teacher: leave the '
                'option out, or give a distillation config, see configs/dpk/'
            )
        if '://' not in teacher_ckpt and not Path(teacher_ckpt).is_file():
            raise UsageError(f'--teacher-ckpt: there is no file {teacher_ckpt}')
        cfg.model.teacher_ckpt = teacher_ckpt
    if amp:
        _enable_amp(cfg, amp)
    if auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise UsageError(
                f'--auto-scale-lr was given, but {cfg.filename} does not say for which batch size '
                'its learning rate is meant: add auto_scale_lr = dict(base_batch_size=16), with '
                'your number'
            )
        cfg.auto_scale_lr.enable = True
    if resume is not None:
        if resume != 'auto' and '://' not in resume and not Path(resume).is_file():
            raise UsageError(
                f'--resume: there is no checkpoint {resume}; --resume without a file takes the '
                f'newest one in {cfg.work_dir}'
            )
        cfg.resume = True
        cfg.load_from = None if resume == 'auto' else resume
    _fill_dataloaders(cfg)
    return cfg


def prepare_test_config(
    cfg: Config,
    *,
    launcher: str = 'none',
    out: str | None = None,
    show: bool = False,
    show_dir: str | None = None,
    wait_time: float = 2,
) -> Config:
    """Reduces a config to its student and applies the options of `tools/test.py`.

    Args:
        cfg: What :func:`load_config` returned.
        launcher: `'none'`, `'pytorch'`, `'slurm'` or `'mpi'`.
        out: File of `--out`; only its name is checked here.
        show: Whether to show the predictions in windows.
        show_dir: Folder for pictures of the predictions, or None.
        wait_time: Seconds for which each window stays.

    Returns:
        A new config that needs neither teacher nor distiller.

    Raises:
        UsageError: If the config cannot be tested, or an option does not fit it.
    """
    if out is not None and not out.endswith((*PICKLE_SUFFIXES, '.json')):
        raise UsageError(
            f'--out {out}: a name ending in .pkl (predictions) or .json (metrics) was expected'
        )
    if cfg.get('test_dataloader') is None:
        raise UsageError(f'{cfg.filename} has no test_dataloader, so there is nothing to test on')
    cfg = student_config(cfg)
    cfg.launcher = launcher
    # the tool loads the weights, all of them; the Runner would take what fits and go on
    cfg.load_from = None
    cfg.resume = False
    if show or show_dir:
        _enable_visualization(cfg, show, show_dir, wait_time)
    _fill_dataloaders(cfg)
    return cfg


def init_cpu_distributed(cfg: Config) -> None:
    """Makes a run of several processes possible on a machine without a GPU; else does nothing.

    mmengine's own initialisation ends in `torch.cuda.set_device`, and its wrapper names CUDA
    devices. So the gloo group is made here, before the Runner, which then leaves it alone, and the
    wrapper gets no devices. What the config says about `find_unused_parameters` and
    `broadcast_buffers` stays.

    Args:
        cfg: The config, with `launcher` set; its `model_wrapper_cfg` is changed in place.

    Raises:
        UsageError: If the processes were not started by `torch.distributed.run`
            (`tools/dist_train.sh`).
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none':
        return
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise UsageError(
            '--launcher pytorch was given, but RANK is not set in the environment: start several '
            'processes with tools/dist_train.sh or tools/dist_test.sh'
        )
    if get_device() != 'cpu':
        return
    if launcher != 'pytorch':
        raise UsageError(
            f'--launcher {launcher} needs GPUs, and there is none here: on CPUs use '
            'tools/dist_train.sh'
        )
    if not dist.is_initialized():
        timeout = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
        dist.init_process_group('gloo', timeout=timeout and timedelta(seconds=timeout))
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        # the Runner's own defaults where the config does not speak
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    wrapper.setdefault('type', 'mmengine.MMDistributedDataParallel')
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)


def build_runner(cfg: Config) -> Runner:
    """Builds the Runner, or the class of `cfg.runner_type`.

    Stopped and resumed, it draws the random numbers that it would have drawn uninterrupted, see
    :class:`dpk_mm.engine.hooks.random_state_hook.RandomStateHook`, and before training it compares
    classes, see :class:`dpk_mm.engine.hooks.class_check_hook.ClassCheckHook`. No config has to name
    these hooks, and the config that is saved does not.
    """
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.register_hook(ClassCheckHook())
    return make_resumable(runner)


def evaluate_student(runner: Runner, out: str | None = None) -> dict[str, float]:
    """Evaluates the student of a Runner and writes `--out`.

    Args:
        runner: Built from :func:`prepare_test_config`, with its weights loaded.
        out: A `.pkl` file for the predictions (as mmdet's and mmpretrain's tools write them), or a
            `.json` file for the metrics.

    Returns:
        The metrics by name.
    """
    if out is not None:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
    if out is not None and out.endswith(PICKLE_SUFFIXES):
        runner.test_evaluator.metrics.append(_dump_metric(unwrap(runner.model), out))
    metrics = runner.test()
    if out is not None and out.endswith('.json') and is_main_process():
        mmengine.dump(metrics, out, indent=1)
    return metrics


def finish() -> None:
    """Leaves the process group, which torch otherwise complains about at exit."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _check_option(cfg: Config, dotted: str) -> None:
    """Refuses a key of `--cfg-options` that leads nowhere and looks like one that is there.

    The last part is not looked at, except at the top: a new setting is often right there, and a
    wrong one fails when the object is built.
    """
    node: Any = cfg
    parts = dotted.split('.')
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(node, (list, tuple)):
            if not part.isdigit() or int(part) >= len(node):
                return  # mmengine has its own sentence for it
            node = node[int(part)]
        elif isinstance(node, (Config, ConfigDict)):
            if part not in node:
                known = [*node] if depth else {*node, *RUNNER_KEYS}
                close = difflib.get_close_matches(part, map(str, known), n=1, cutoff=0.8)
                if close and part not in known and not (last and depth):
                    parts[depth] = close[0]
                    raise UsageError(
                        f'--cfg-options {dotted}: the config has no {part}; did you mean '
                        f'{".".join(parts)}?'
                    )
                return
            node = node[part]
        else:
            return


def _enable_amp(cfg: Config, amp: bool | str) -> None:
    if amp not in (True, 'fp16', 'bf16'):
        raise UsageError(f'--amp {amp}: fp16 or bf16 was expected')
    wrappers = _optim_wrappers(cfg)
    shared = cfg.optim_wrapper  # what stands beside several wrappers is the default of each
    for key, wrapper in wrappers.items():
        kind = wrapper.get('type', shared.get('type', 'OptimWrapper'))
        if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
            raise UsageError(
                f'--amp replaces {key}.type OptimWrapper, but {cfg.filename} has {kind}: leave the '
                'option out, or set up mixed precision in the config'
            )
    on_cpu = get_device() == 'cpu'
    if on_cpu and amp != 'bf16':
        raise UsageError(
            '--amp needs a GPU, and there is none here: leave the option out, or take --amp bf16'
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


def _optim_wrappers(cfg: Config) -> dict[str, ConfigDict]:
    """The optimizer wrappers of a config by their keys: one, or those of a constructor of several."""
    whole = cfg.get('optim_wrapper')
    if not isinstance(whole, dict):
        raise UsageError(f'--amp was given, but {cfg.filename} has no optim_wrapper')
    parts = {
        f'optim_wrapper.{key}': value
        for key, value in whole.items()
        if isinstance(value, dict) and 'optimizer' in value
    }
    return parts if parts and 'optimizer' not in whole else {'optim_wrapper': whole}


def _enable_visualization(cfg: Config, show: bool, show_dir: str | None, wait_time: float) -> None:
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise UsageError(
            f'--show and --show-dir need a hook that draws, but {cfg.filename} has none: add '
            "default_hooks = dict(visualization=dict(type='DetVisualizationHook')) for a detector, "
            "or type='VisualizationHook' for a classifier"
        )
    hook.show = show
    if str(hook.type).endswith('DetVisualizationHook'):
        hook.draw = True
        hook.wait_time = wait_time
        if show_dir:
            hook.test_out_dir = show_dir
    else:
        hook.enable = True
        hook.interval = 1
        hook.out_dir = show_dir
        if show:
            hook.wait_time = wait_time


def _fill_dataloaders(cfg: Config) -> None:
    """Sets what mmpretrain's configs leave to its tools; mmdet's configs say it themselves."""
    if cfg.get('default_scope') != 'mmpretrain':
        return
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name)
        if loader is None:
            continue
        loader.setdefault('collate_fn', dict(type='default_collate'))
        loader.setdefault('pin_memory', torch.cuda.is_available())
        loader.setdefault('persistent_workers', loader.get('num_workers', 0) > 0)


def _dump_metric(model: torch.nn.Module, out: str) -> DumpResults:
    """The metric that writes predictions; mmdet's also packs masks, which would fill the disk."""
    if any(kind.__module__.startswith('mmdet.') for kind in type(model).__mro__):
        from mmdet.evaluation import DumpDetResults

        return DumpDetResults(out_file_path=out)
    return DumpResults(out_file_path=out)
