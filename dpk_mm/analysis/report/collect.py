"""What only a running training knows: its models, its machine, how long it took."""

from __future__ import annotations

import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import CheckpointHook, EMAHook, LoggerHook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from ...checkpoint.student_config import unwrap
from ...engine.hooks import DistillAlarmHook, StudentCheckpointHook, TeacherCheckHook
from ...engine.runner.teacher_metrics import TeacherSteps, class_count
from ...engine.runner.validation_part import spread, validation_sets
from ...modules import count_parameters
from ...version import __version__
from .examples import collect_examples

#: Of the form of the record.
VERSION = 1
#: Images of the speed, and how long each model is measured at most.
_TIMED, _WARM_UP, _SECONDS = 10, 2, 4.0
_PACKAGES = (
    'torchvision',
    'mmengine',
    'mmcv',
    'mmcv-lite',
    'mmdet',
    'mmpretrain',
    'mmrazor',
)


def collect(runner: Runner, seconds: float, first_iteration: int) -> dict[str, Any]:
    """Collects the record of a training that has reached its end; nothing of the run is changed.

    Args:
        runner: Of the training.
        seconds: Wall-clock time of the training in this process.
        first_iteration: Where it began in this process; above 0 if it was resumed.

    Returns:
        Plain data for JSON: ``models`` (role, type, parameters, metrics, milliseconds for an image), ``examples``,
        ``alarms``, ``environment``, ``command`` and times. What could not be had is in ``missing``, with the reason.
    """
    model = unwrap(runner.model)
    missing: list[str] = []
    hooks = list(runner.hooks)
    alarms = [hook for hook in hooks if isinstance(hook, DistillAlarmHook)]
    with _as_tested(runner):
        models = _models(runner, model, missing)
        examples = _attempt(lambda: _examples(runner, model), 'examples', missing)
    return dict(
        version=VERSION,
        config=str(getattr(runner.cfg, 'filename', None) or ''),
        command=_command(),
        finished=time.strftime('%Y-%m-%d %H:%M'),
        log=runner.timestamp,
        seconds=round(seconds, 1),
        first_iteration=first_iteration,
        iterations=runner.iter,
        epochs=runner.epoch if isinstance(runner.train_loop, EpochBasedTrainLoop) else None,
        by_epoch=_counts_epochs(runner),
        metric=_chosen_metric(hooks),
        models=models,
        alarms=[text for hook in alarms for text in hook.alarms.values()],
        examples=examples,
        missing=missing,
        environment=environment(runner),
    )


def _counts_epochs(runner: Runner) -> bool:
    """Whether the log has validations by epoch, which a ``LoggerHook`` can be told not to do."""
    loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
    return isinstance(runner.train_loop, EpochBasedTrainLoop) and all(
        hook.log_metric_by_epoch for hook in loggers
    )


def _models(runner: Runner, model: nn.Module, missing: list[str]) -> list[dict[str, Any]]:
    teacher = getattr(model, 'teacher', None)
    if not isinstance(teacher, nn.Module):
        return [_model('model', model, model, runner, missing)]
    # the student predicts through the algorithm, as in validation
    student = _model('student', model.student, model, runner, missing)
    return [
        dict(
            _model('teacher', teacher, TeacherSteps(model), runner, missing),
            metrics=_teacher_metrics(list(runner.hooks)),
            checkpoint=getattr(model, 'teacher_ckpt', None),
        ),
        student,
    ]


def _model(
    role: str, network: nn.Module, predicts: Any, runner: Runner, missing: list[str]
) -> dict[str, Any]:
    timed = _attempt(
        lambda: milliseconds_per_image(runner, predicts), f'speed of the {role}', missing
    )
    return dict(
        role=role,
        type=type(network).__name__,
        parameters=count_parameters(network, trainable_only=False),
        speed=timed,
    )


def _teacher_metrics(hooks: Sequence[Any]) -> dict[str, float]:
    for hook in hooks:
        if isinstance(hook, DistillAlarmHook) and hook.teacher_metrics:
            return dict(hook.teacher_metrics)
        if isinstance(hook, TeacherCheckHook) and hook.metrics:
            return dict(hook.metrics)
    return {}


def _chosen_metric(hooks: Sequence[Any]) -> str | None:
    """The metric that decides which student is the best."""
    for hook in hooks:
        if isinstance(hook, StudentCheckpointHook) and hook.metric:
            return hook.metric
    for hook in hooks:
        if isinstance(hook, CheckpointHook) and getattr(hook, 'key_indicators', None):
            name = hook.key_indicators[0]
            return None if name == 'auto' else name
    return None


# Speed.


def milliseconds_per_image(runner: Runner, model: Any) -> dict[str, Any] | None:
    """Measures ``val_step`` on single images of the validation set, that is preprocessing, network and decoding.

    Args:
        runner: With a validation; None is returned without one.
        model: In eval mode; its ``val_step`` is called.

    Returns:
        The median in milliseconds, and of how many images.
    """
    if runner.val_loop is None:
        return None
    loader, _ = validation_sets(runner)[0]
    samples = [loader.dataset[i] for i in range(min(_TIMED, len(loader.dataset)))]
    times: list[float] = []
    begin = time.perf_counter()
    for number in range(_WARM_UP + _TIMED):
        batch = loader.collate_fn([samples[number % len(samples)]])
        _wait()
        start = time.perf_counter()
        model.val_step(batch)
        _wait()
        times.append(time.perf_counter() - start)
        if time.perf_counter() - begin > _SECONDS and number >= 1:
            break
    kept = times[_WARM_UP:] or times[-1:]
    return dict(milliseconds=round(1000 * statistics.median(kept), 2), images=len(kept))


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _examples(runner: Runner, model: nn.Module) -> dict[str, Any] | None:
    if runner.val_loop is None:
        return None
    loader, _ = validation_sets(runner)[0]
    models = {'student' if hasattr(model, 'teacher') else 'model': model}
    if isinstance(getattr(model, 'teacher', None), nn.Module) and _same_classes(model):
        models = {'teacher': TeacherSteps(model), **models}
    return collect_examples(
        models,
        loader.dataset,
        loader.collate_fn,
        lambda count: spread([len(loader.dataset)], count),
    )


def _same_classes(model: Any) -> bool:
    """Whether the labels of the teacher's predictions mean what the student's do, as far as their number tells."""
    counts = [class_count(model.teacher), class_count(model.student)]
    return None in counts or counts[0] == counts[1]


@contextmanager
def _as_tested(runner: Runner) -> Any:
    """In eval mode, without gradients, and with the averaged weights where a hook averages."""
    model = runner.model
    training = model.training
    # Not through the points of the hook: mmpretrain's evaluates the raw weights as well there, on all ranks, and the
    # report is made on one.
    averaging = [
        hook
        for hook in runner.hooks
        if isinstance(hook, EMAHook) and getattr(hook, 'evaluate_on_ema', True)
    ]
    for hook in averaging:
        hook._swap_ema_parameters()
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
        for hook in averaging:
            hook._swap_ema_parameters()


def _attempt(function: Callable[[], Any], what: str, missing: list[str]) -> Any:
    """What a function returns; if it fails, None, and the reason is noted: a page without it is better than none."""
    try:
        return function()
    except Exception as error:
        missing.append(f'{what}: {type(error).__name__}: {error}')
        return None


# The machine.


def environment(runner: Runner) -> list[tuple[str, str]]:
    """What the training ran on and with: (what, value)."""
    processes = get_world_size()
    rows = [
        ('device', device_name()),
        ('system', f'{platform.system()} {platform.release()}, Python {platform.python_version()}'),
        (
            'packages',
            ', '.join(
                filter(
                    None,
                    (
                        f'dpk_mm {__version__}',
                        f'torch {torch.__version__}',
                        *map(_version, _PACKAGES),
                    ),
                )
            ),
        ),
        ('processes', f'{processes}, each with {torch.get_num_threads()} threads'),
        ('seed', str(runner.seed)),
        ('optimizer', f'{_optimizer(runner)} in {type(runner.optim_wrapper).__name__}'),
    ]
    return rows


def device_name() -> str:
    """The GPU, or the CPU and its cores."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'CPU: {_cpu()}, {os.cpu_count()} cores'


def _cpu() -> str:
    with (
        open('/proc/cpuinfo', encoding='utf-8')
        if Path('/proc/cpuinfo').is_file()
        else open(os.devnull) as file
    ):
        for line in file:
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return f'{package} {version(package)}'
    except PackageNotFoundError:
        return ''


def _optimizer(runner: Runner) -> str:
    optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
    return type(optimizer).__name__ if optimizer is not None else 'several optimizers'


def _command() -> str:
    script, *arguments = sys.argv
    with_python = [os.path.relpath(script) if Path(script).is_file() else script, *arguments]
    command = shlex.join(['python', *with_python])
    count = get_world_size()
    return command if count == 1 else f'{command}  # in {count} processes'
