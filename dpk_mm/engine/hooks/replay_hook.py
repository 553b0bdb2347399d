"""Which pass over a replayed data set begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmrazor.registry import HOOKS

from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.errors import UsageError

from ...models.teacher.stored_logits import StoredLogits
from ...models.teacher.stored_teacher import StoredTeacher
from ..datasets.replay_dataset import ReplayDataset
from .passes import is_iteration_based


@HOOKS.register_module()
class ReplayHook(Hook):
    """Tells a ``ReplayDataset`` the epoch, and checks its stored logits before the first step.

    It keeps no state: a resumed run goes on with the pass of its epoch.

    Raises:
        UsageError: (a ValueError) Before training, if the training data are no ``ReplayDataset``, the loop counts
            iterations, the preprocessor mixes the images of a batch although logits are stored, the teacher is no
            ``StoredTeacher`` of their classes and temperature, not all classes are stored and a loss needs them (it
            standardises, or reads the teacher at another temperature than its ``tau``), or a file of them is not the
            one that was written.
    """

    def before_train(self, runner: Runner) -> None:
        """Checks, once a run."""
        dataset = self._dataset(runner)
        if is_iteration_based(runner):
            raise UsageError(
                'ReplayHook: train_cfg counts iterations, but augmentation is replayed by epochs; set '
                'train_cfg.by_epoch=True and max_epochs.'
            )
        if dataset.logits is not None:
            preprocessor = getattr(unwrap(runner.model), 'data_preprocessor', None)
            if getattr(preprocessor, 'batch_augments', None) is not None:
                raise UsageError(
                    'ReplayHook: stored logits are of single images, but the batch augmentation (Mixup, CutMix) mixes '
                    'several; take train_cfg.augments out of model.architecture, or use a live teacher.'
                )
            model = unwrap(runner.model)
            self._check_teacher(getattr(model, 'teacher', None), dataset.logits)
            self._compare_temperatures(runner, model.distiller.distill_losses, dataset.logits)
            dataset.logits.check()

    def before_train_epoch(self, runner: Runner) -> None:
        """Says which pass begins."""
        self._dataset(runner).set_pass(runner.epoch)

    @staticmethod
    def _check_teacher(teacher: Any, logits: StoredLogits) -> None:
        if not isinstance(teacher, StoredTeacher):
            raise UsageError(
                f'ReplayHook: train_dataloader.dataset.logits is set, but model.teacher is a {type(teacher).__name__}, '
                "which does not look at stored logits; set model.teacher.type='StoredTeacher', or leave logits out."
            )
        for name in ('num_classes', 'tau'):
            own, stored = getattr(teacher, name), getattr(logits, name)
            if own != stored:
                raise UsageError(
                    f'ReplayHook: model.teacher.{name} is {own}, but the logits in {str(logits.folder)!r} were stored '
                    f'with {stored}; set it to {stored}.'
                )

    @staticmethod
    def _compare_temperatures(
        runner: Runner, losses: Mapping[str, Any], logits: StoredLogits
    ) -> None:
        if logits.top_k >= logits.num_classes:
            return
        every = f'--top-k {logits.num_classes}'
        for name, loss in losses.items():
            if getattr(loss, 'standardize', False):
                raise UsageError(
                    f'ReplayHook: {name} standardises the logits, whose mean and deviation are those of all classes, '
                    f'but {logits.top_k} of {logits.num_classes} are stored; store them with {every}, or set '
                    'standardize=False.'
                )
            fixed = getattr(loss, 'target_tau', None)
            if fixed not in (None, logits.tau):
                raise UsageError(
                    f'ReplayHook: {name} reads the target class of the teacher at the temperature {fixed:g}, but the '
                    f'logits that were not kept are summed at {logits.tau:g}; store them with --tau {fixed:g}, or with '
                    f'{every}.'
                )
            tau = getattr(loss, 'tau', logits.tau)
            if tau != logits.tau:
                remedy = f'--tau {tau}' if fixed is None else every
                runner.logger.warning(
                    f'ReplayHook: tau of {name} is {tau}, but the logits that were not kept are summed at '
                    f'{logits.tau}: its target is not quite that of the teacher; store them with {remedy}.'
                )

    @staticmethod
    def _dataset(runner: Runner) -> ReplayDataset:
        dataset = runner.train_dataloader.dataset
        if not isinstance(dataset, ReplayDataset):
            raise UsageError(
                f'ReplayHook: train_dataloader.dataset is a {type(dataset).__name__}, but must be a ReplayDataset; '
                'leave the hook out, or put the data set into one.'
            )
        return dataset
