"""Which pass over a replayed data set begins."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmrazor.registry import HOOKS

from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.errors import UsageError

from ..datasets.replay_dataset import ReplayDataset
from .passes import is_iteration_based


@HOOKS.register_module()
class ReplayHook(Hook):
    """Tells a ``ReplayDataset`` the epoch, and checks its stored logits before the first step.

    It keeps no state: a resumed run goes on with the pass of its epoch.

    Raises:
        UsageError: (a ValueError) Before training, if the training data are no ``ReplayDataset``, the loop counts
            iterations, the preprocessor mixes the images of a batch although logits are stored, or a file of them is
            not the one that was written.
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
            dataset.logits.check()

    def before_train_epoch(self, runner: Runner) -> None:
        """Says which pass begins."""
        self._dataset(runner).set_pass(runner.epoch)

    @staticmethod
    def _dataset(runner: Runner) -> ReplayDataset:
        dataset = runner.train_dataloader.dataset
        if not isinstance(dataset, ReplayDataset):
            raise UsageError(
                f'ReplayHook: train_dataloader.dataset is a {type(dataset).__name__}, but must be a ReplayDataset; '
                'leave the hook out, or put the data set into one.'
            )
        return dataset
