"""State of a training that mmengine leaves out of its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.runner import Runner
from torch import nn

from dpk_mm.checkpoint.student_config import unwrap

from ..metrics import numbers

#: In a checkpoint that was written again after its validation: ``iter`` and ``metrics`` of that validation.
VALIDATED = 'validated'
_KEY = 'kept_state'
_SIZE = '_input_size'


class KeptStateHook(Hook):
    """Puts what mmengine leaves out into each checkpoint, and restores it at a resume.

    - The image size that mmdet's ``BatchSyncRandomResize`` (YOLOX) drew, which holds until it draws the next one.
    - The best score of an ``EarlyStoppingHook`` and how long it has been waiting for a better one.
    - Whether the checkpoint is from after its validation, as where ``CheckpointHook(save_best=...)`` writes it again:
      :class:`~dpk_mm.engine.hooks.random_state_hook.ValidationAtResumeHook` does not repeat that one.

    It is not named in configs: ``make_resumable`` puts it into every run of ``tools/train.py``.
    """

    priority = 'VERY_HIGH'  # notes a validation before CheckpointHook writes

    def __init__(self) -> None:
        self._validated: dict[str, Any] | None = None

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Notes which iteration was validated."""
        self._validated = dict(iter=runner.iter, metrics=numbers(metrics))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Adds all of it."""
        checkpoint[_KEY] = dict(
            sizes={
                name: size and [int(side) for side in size]
                for name, module in _resizing(runner)
                for size in [getattr(module, _SIZE)]
            },
            early_stopping={
                hook.monitor: [hook.wait_count, float(hook.best_score)]
                for hook in _early_stopping(runner)
            },
        )
        done = self._validated
        if done is not None and done['iter'] == checkpoint.get('meta', {}).get('iter'):
            checkpoint[VALIDATED] = done

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Restores it at a resume (not from ``load_from``)."""
        state = checkpoint.get(_KEY)
        if not runner._resume or state is None:
            return
        for name, module in _resizing(runner):
            size = state['sizes'].get(name)
            if size is not None:
                setattr(module, _SIZE, tuple(size))
        for hook in _early_stopping(runner):
            if hook.monitor in state['early_stopping']:
                hook.wait_count, hook.best_score = state['early_stopping'][hook.monitor]


def _resizing(runner: Runner) -> Iterator[tuple[str, nn.Module]]:
    # By its attribute: mmdet need not be there, and others copy the class.
    for name, module in unwrap(runner.model).named_modules():
        if 'data_preprocessor' in name and hasattr(module, _SIZE):
            yield name, module


def _early_stopping(runner: Runner) -> list[EarlyStoppingHook]:
    return [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]
