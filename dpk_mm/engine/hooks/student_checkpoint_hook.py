"""Writes the student alone while it trains: the best of all validations, and the last."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from mmrazor.registry import HOOKS
from torch import Tensor, nn

from dpk_mm.checkpoint.student import STUDENT_CONFIG, read_student, save_student, student_state_dict
from dpk_mm.checkpoint.student_config import is_distillation, student_config, unwrap
from dpk_mm.errors import UsageError

from ...models.algorithms.failed_forward import first_not_finite
from ..metrics import numbers
from .precedence import gives_way

BEST_FILE = 'student_best.pth'
LAST_FILE = 'student_last.pth'
STATE_KEY = 'student_checkpoint_hook'


@HOOKS.register_module()
class StudentCheckpointHook(Hook):
    """Writes ``student_best.pth`` and ``student_last.pth`` to the work folder.

    Both hold the plain names of the student (``backbone.*``, ``neck.*``, ...) under ``state_dict``, so
    stock mmdet or mmpretrain loads them, and a ``meta`` with ``epoch`` and ``iter`` (finished ones),
    ``metric`` and ``value`` (the best file), ``dataset_meta``, and ``cfg``, the text of the student's
    config. Each is replaced whole.

    Where mmengine's ``EMAHook`` averages the weights, both files hold the averaged student: the best
    file because those weights were evaluated, the last file as mmengine's own checkpoints do.

    Resuming goes on from the best value so far, which is in the checkpoint. A validation comes
    after its epoch's checkpoint was written, so the value in ``student_best.pth`` is looked at as
    well, unless that file is from a later iteration than the one resumed from.

    Args:
        save_best: The metric that decides; ``'auto'`` is the first one of the validation of which ``rule`` is known;
            where there is none (LVIS' ``bbox_AP``, ``PQ``, ``Recall@1``), the log says so once, and only the last
            student is written.
        rule: ``'greater'`` or ``'less'`` is better; by default mmengine's ``CheckpointHook`` infers it
            from the name of the metric.

    Raises:
        ValueError: If the rule cannot be inferred from the name of the metric that ``save_best`` names.
        UsageError: (a ValueError) If ``rule`` is another word. Before training, if the model has no student in it
            (``architecture``), or the hook stands in the config twice.
    """

    # After a validation, before EMAHook (NORMAL; 49 in mmdet's configs) takes its weights back.
    priority = 'ABOVE_NORMAL'

    def __init__(self, save_best: str = 'auto', rule: str | None = None) -> None:
        if rule not in (None, 'greater', 'less'):
            raise UsageError(
                f"StudentCheckpointHook: rule must be 'greater' or 'less', but is {rule!r}."
            )
        self.metric: str | None = None
        self.best: float | None = None
        self.rule = rule
        self._config_text: str | None = None
        self._training = False
        self._said_unknown = False
        if save_best != 'auto':
            self._choose_metric(save_best)

    def _choose_metric(self, name: str) -> None:
        # mmengine's inference of the rule, with its error for a name that it cannot tell
        self._is_better = CheckpointHook(save_best=name, rule=self.rule).is_better_than[name]
        self.metric = name

    def _choose_first(self, names: Iterable[str]) -> None:
        # A training that was started without naming a metric does not end for want of one.
        for name in names:
            with suppress(ValueError):
                self._choose_metric(name)
                return

    def before_train(self, runner: Runner) -> None:
        """Checks the model, and looks at the best student of a run that is resumed."""
        model = unwrap(runner.model)
        if not isinstance(getattr(model, 'architecture', None), nn.Module):
            raise UsageError(
                f'StudentCheckpointHook writes the student of a distillation, model.architecture, '
                f'but the model is a plain {type(model).__name__}: take the hook out of the config, or train a '
                'DPKDistill.'
            )
        if gives_way(self, StudentCheckpointHook, 'student_checkpoint', runner):
            return
        self._training = True
        if is_distillation(runner.cfg):
            self._config_text = student_config(runner.cfg).pretty_text
        best_file = Path(runner.work_dir) / BEST_FILE
        if runner._resume and is_main_process() and best_file.is_file():
            meta = read_student(best_file)[1]
            if meta.get('iter', runner.iter + 1) <= runner.iter:
                self._restore(meta)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Writes the student if it is the best so far."""
        if not self._training or not metrics:  # mmdet gives no metrics where nothing was detected
            return
        found = numbers(metrics)
        if self.metric is None:
            self._choose_first(found)
        if self.metric is None and found:
            if not self._said_unknown:
                self._said_unknown = True
                runner.logger.warning(
                    f'{BEST_FILE} is not written: whether more or less is better does not follow from the names of the '
                    f'metrics, {", ".join(found)}; set save_best and rule of StudentCheckpointHook, as in '
                    f"default_hooks = dict(student_checkpoint=dict(save_best={next(iter(found))!r}, rule='greater'))."
                )
            return
        value = None if self.metric is None else found.get(self.metric)
        if value is None:
            runner.logger.warning(
                f'{BEST_FILE} stays as it is: this validation has no {self.metric or "single number"}, only '
                f'{", ".join(found or metrics)}; save_best of StudentCheckpointHook names the metric'
            )
            return
        if math.isnan(value) or (self.best is not None and not self._is_better(value, self.best)):
            return
        self.best = value
        weights = unwrap(runner.model).architecture.state_dict()
        self._write(runner, BEST_FILE, weights, metric=self.metric, value=value)
        if is_main_process():
            runner.logger.info(f'The best student, {self.metric} {value:.4f}, is in {BEST_FILE}')

    def after_train(self, runner: Runner) -> None:
        """Writes the student as it is at the end."""
        self._training = False
        # Through the hooks, as for a checkpoint: EMAHook puts the averaged weights into the dict.
        checkpoint: dict[str, Any] = dict(meta={}, state_dict=unwrap(runner.model).state_dict())
        runner.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        self._write(runner, LAST_FILE, student_state_dict(checkpoint))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keeps the best value, and the student's config for ``tools/export_student.py``.

        Raises:
            UsageError: If a weight or a running statistic is NaN or infinite, or another buffer NaN; the checkpoint
                is then not written, and the one before it stays.
        """
        _refuse_non_finite(checkpoint.get('state_dict', {}), runner)
        if self.best is not None:
            checkpoint[STATE_KEY] = dict(metric=self.metric, value=self.best)
        if self._config_text is not None:
            checkpoint.setdefault('meta', {})[STUDENT_CONFIG] = self._config_text

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Goes on from the best value of the run that is resumed."""
        if runner._resume and STATE_KEY in checkpoint:
            self._restore(checkpoint[STATE_KEY])

    def _restore(self, state: dict[str, Any]) -> None:
        """Takes a best value over, unless it is of another metric or worse than what is known."""
        name, value = state.get('metric'), state.get('value')
        if name is None or value is None or (self.metric is not None and name != self.metric):
            return
        if self.metric is None:
            self._choose_first([name])
        if self.metric is None:  # the rule is no longer in the config
            return
        if self.best is None or self._is_better(value, self.best):
            self.best = float(value)

    def _write(
        self, runner: Runner, filename: str, weights: OrderedDict[str, Tensor], **extra: Any
    ) -> None:
        if not is_main_process():
            return
        meta: dict[str, Any] = dict(epoch=runner.epoch, iter=runner.iter, **extra)
        dataset_meta = getattr(runner.train_dataloader.dataset, 'metainfo', None)
        if dataset_meta is not None:
            meta['dataset_meta'] = dataset_meta
        if self._config_text is not None:
            meta['cfg'] = self._config_text
        save_student(Path(runner.work_dir) / filename, weights, meta)


def _refuse_non_finite(state_dict: dict[str, Any], runner: Runner) -> None:
    # The gradient of a finite loss can be NaN; its step spoils the weights before the next loss tells.
    buffers = dict(unwrap(runner.model).named_buffers())
    name = first_not_finite(state_dict.items(), buffers)
    if name is not None:
        raise UsageError(
            f'iteration {runner.iter}: the weight {name} is not finite, so no checkpoint is written '
            'and the one before it stays; go on from that one with --resume, and set '
            'optim_wrapper.clip_grad or a lower learning rate.'
        )
