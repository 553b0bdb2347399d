"""Builds the Runner of a config, and evaluates its student."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import mmengine
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.evaluator import DumpResults
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ...checkpoint.student_config import deployed, unwrap
from ...errors import UsageError
from ..hooks.class_check_hook import ClassCheckHook
from ..hooks.load_check_hook import LoadCheckHook
from ..hooks.random_state_hook import make_resumable
from ..hooks.upstream_check_hook import UpstreamCheckHook
from ..hooks.warmup_hook import WarmupHook
from .prepare import PICKLE_SUFFIXES


def init_cpu_distributed(cfg: Config) -> None:
    """Makes a run of several processes possible on a machine without a GPU; else does nothing.

    mmengine's own initialisation ends in ``torch.cuda.set_device``, and its wrapper names CUDA
    devices. So the gloo group is made here, before the Runner, which then leaves it alone, and the
    wrapper gets no devices. What the config says about ``find_unused_parameters`` and
    ``broadcast_buffers`` stays.

    Args:
        cfg: The config, with ``launcher`` set; its ``model_wrapper_cfg`` is changed in place.

    Raises:
        UsageError: If the processes were not started by ``torch.distributed.run``
            (``tools/dist_train.sh``).
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none':
        return
    if launcher == 'pytorch' and 'RANK' not in os.environ:
        raise UsageError(
            '--launcher pytorch was given, but RANK is not set in the environment: start several '
            'processes with tools/dist_train.sh or tools/dist_test.sh.'
        )
    if get_device() != 'cpu':
        return
    if launcher != 'pytorch':
        raise UsageError(
            f'--launcher {launcher} needs GPUs, and there is none here: on CPUs use '
            'tools/dist_train.sh.'
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
    """Builds the Runner, or the class of ``cfg.runner_type``.

    Stopped and resumed, it draws the random numbers that it would have drawn uninterrupted, see
    :class:`dpk_mm.engine.hooks.random_state_hook.RandomStateHook`, and before training it compares
    classes, see :class:`dpk_mm.engine.hooks.class_check_hook.ClassCheckHook`, looks at what it starts
    from, see :class:`dpk_mm.engine.hooks.load_check_hook.LoadCheckHook`, and refuses hooks that cannot
    be used with a distillation, see
    :class:`dpk_mm.engine.hooks.upstream_check_hook.UpstreamCheckHook`. Losses with a warm-up get the
    number of the pass, see :class:`dpk_mm.engine.hooks.warmup_hook.WarmupHook`. No config has to name these
    hooks, and the config that is saved does not.
    """
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    runner.register_hook(UpstreamCheckHook())
    runner.register_hook(ClassCheckHook())
    runner.register_hook(LoadCheckHook())
    runner.register_hook(WarmupHook())
    return make_resumable(runner)


def evaluate_student(
    runner: Runner, out: str | None = None, out_item: str | None = None
) -> dict[str, float]:
    """Evaluates the student of a Runner and writes ``--out``.

    Args:
        runner: Built from :func:`prepare_test_config`, with its weights loaded.
        out: A ``.pkl`` file for the predictions (as mmdet's and mmpretrain's tools write them), or a
            ``.json`` file for the metrics.
        out_item: ``'pred'`` or ``'metrics'``, which then goes over what the name of the file says.

    Returns:
        The metrics by name.
    """
    if out is not None:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
    item = out_item or ('pred' if out is not None and out.endswith(PICKLE_SUFFIXES) else 'metrics')
    if out is not None and item == 'pred':
        dump = _dump_metric(deployed(unwrap(runner.model)), out)
        runner.test_evaluator.metrics.append(dump)
    metrics = runner.test()
    if out is not None and item == 'pred' and hasattr(runner.test_evaluator, 'dataset_prefixes'):
        # mmdet's for several data sets evaluates one metric for each, and would leave this one out
        dump.evaluate(len(runner.test_dataloader.dataset))
    if out is not None and item == 'metrics' and is_main_process():
        plain = {k: v.tolist() if isinstance(v, torch.Tensor) else v for k, v in metrics.items()}
        mmengine.dump(plain, out, **(dict(indent=1) if out.endswith('.json') else {}))
    return metrics


def finish() -> None:
    """Leaves the process group, which torch otherwise complains about at exit."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _dump_metric(model: torch.nn.Module, out: str) -> DumpResults:
    """The metric that writes predictions; mmdet's also packs masks, which would fill the disk."""
    if any(kind.__module__.startswith('mmdet.') for kind in type(model).__mro__):
        from mmdet.evaluation import DumpDetResults

        return DumpDetResults(out_file_path=out)
    return DumpResults(out_file_path=out)
