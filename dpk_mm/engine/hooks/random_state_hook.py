"""A run that was stopped and resumed draws the random numbers that it would have drawn anyway."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from .kept_state_hook import VALIDATED, KeptStateHook

# What a seed is for; it keeps the streams of one run apart.
_EPOCH, _ITERATION, _BATCH = range(3)
_KEY = 'data_position'


def seed_all(*numbers: int) -> None:
    """Seeds Python, numpy and torch (each device of this process) by a few whole numbers >= 0."""
    seeds = np.random.SeedSequence(numbers).generate_state(3)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1])
    torch.manual_seed(int(seeds[2]))


class SeededIndices(list):
    """The indices of a batch; whoever starts to load it is seeded.

    A list of its own because that is what goes to a data worker: the numbers that augment a batch
    then depend on the batch alone, and not on what the worker did before, or which one it is.
    """

    def __init__(self, indices: Iterable[int], seed: tuple[int, ...]) -> None:
        super().__init__(indices)
        self.seed = seed

    def __iter__(self) -> Iterator[int]:
        seed_all(*self.seed)
        return super().__iter__()

    def __reduce__(self) -> tuple[Any, ...]:
        # else pickle iterates over it, in the process that sends it
        return SeededIndices, (list(super().__iter__()), self.seed)


class SeededBatches:
    """A batch sampler that seeds each batch by run, rank, epoch and its number.

    Args:
        batch_sampler: The one that it stands for; its attributes are seen through.
        seed: The seed of the run.
        rank: The rank of this process.

    Attributes:
        skip: Batches left out at the start of the next iteration; set again each time.
    """

    def __init__(self, batch_sampler: Any, seed: int, rank: int = 0) -> None:
        self.batch_sampler = batch_sampler
        self.seed, self.rank = seed, rank
        self.skip = 0
        self._epoch = self._round = 0

    def start_epoch(self, epoch: int, skip: int = 0) -> None:
        """Tells the epoch, and how many of its batches an earlier process has trained on."""
        self._epoch, self._round, self.skip = epoch, 0, skip

    def __iter__(self) -> Iterator[SeededIndices]:
        key = (_BATCH, self.seed, self.rank, self._epoch, self._round)
        # loops of iterations go through the data again without naming an epoch
        self._round += 1
        skip, self.skip = self.skip, 0
        for number, indices in enumerate(self.batch_sampler):
            if number >= skip:
                yield SeededIndices(indices, (*key, number))

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or 'batch_sampler' not in self.__dict__:
            raise AttributeError(name)  # asked for by copy and pickle, before there is anything
        return getattr(self.batch_sampler, name)


class RandomStateHook(Hook):
    """Makes every random number of a training a function of seed, rank and place in the run.

    mmengine saves no state of a random generator, and data workers, which live on between epochs,
    carry states of their own. So nothing is saved here either: the generators of Python, numpy and
    torch are seeded anew before each epoch and each iteration, and in the worker before each batch
    (:class:`SeededBatches`). A resumed run is then equal to an uninterrupted one by construction,
    whatever happened between: a validation, another number of workers, a kill.

    A checkpoint written inside an epoch (``CheckpointHook(by_epoch=False)``) is taken up at its
    batch, where mmengine would start the epoch again. With ``IterBasedTrainLoop`` mmengine loads
    and drops what was trained on already, which takes its time but is exact.

    Not covered: transforms that keep things from batch to batch in the worker (mmdet's
    ``CachedMosaic``), kernels of a GPU that are not deterministic
    (``randomness=dict(deterministic=True)``), a resume with another batch size or number of
    processes.

    It is not named in configs: ``tools/train.py`` puts it into every run with
    :func:`make_resumable`, so that a saved config still runs where dpk_mm is not installed.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._position: dict[str, int] | None = None

    def before_train_epoch(self, runner: Runner) -> None:
        """Seeds this process, and tells the data loader where the epoch starts."""
        seed_all(_EPOCH, runner.seed, get_rank(), runner.epoch)
        loop = runner.train_loop
        if not isinstance(loop, EpochBasedTrainLoop):
            return
        batches = getattr(loop.dataloader, 'batch_sampler', None)
        if not isinstance(batches, SeededBatches):
            return
        skip = self._trained_on(runner)
        batches.start_epoch(runner.epoch, skip)
        if skip:
            runner.logger.info(f'Goes on with batch {skip + 1} of epoch {runner.epoch + 1}.')
            # the loop counts from 0, and LoggerHook and others look at that number
            loop.run_iter = functools.partial(_run_later, loop, skip)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seeds this process: masks, dropout, sampling of boxes."""
        seed_all(_ITERATION, runner.seed, get_rank(), runner.iter)

    def after_train_epoch(self, runner: Runner) -> None:
        """Ends what :meth:`before_train_epoch` did for an epoch that was taken up inside."""
        vars(runner.train_loop).pop('run_iter', None)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Says how far in its epoch the checkpoint is."""
        meta = checkpoint.get('meta', {})
        if 'epoch' in meta and isinstance(runner.train_loop, EpochBasedTrainLoop):
            length = len(runner.train_dataloader)
            done = meta['iter'] - meta['epoch'] * length
            checkpoint[_KEY] = dict(batches_done=done, epoch_length=length)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Remembers it at a resume."""
        if runner._resume:
            self._position = checkpoint.get(_KEY)

    def _trained_on(self, runner: Runner) -> int:
        """Batches of this epoch that were trained on before a resume."""
        position, self._position = self._position, None
        if position is None:
            return 0
        length = len(runner.train_dataloader)
        if position['epoch_length'] != length:
            runner.logger.warning(
                f'The checkpoint is of a run with {position["epoch_length"]} iterations an epoch, '
                f'this one has {length} (batch size, number of processes or data are other ones): '
                'the result will not be that of an uninterrupted run.'
            )
            return 0
        done = position['batches_done']
        return done if 0 < done <= length else 0


class ValidationAtResumeHook(Hook):
    """Does the validation again that followed the checkpoint a run goes on from.

    A checkpoint is written before the validation of its epoch, and knows nothing of what that
    changes: the best score so far, a schedule that looks at it, the log. Whether it had ended when
    the run was stopped cannot be told from the checkpoint, and a second time gives the same.

    Where ``CheckpointHook(save_best=...)`` wrote the checkpoint again after the validation, it knows all that, and a
    second time would count twice (``ReduceOnPlateau``); then only an ``EarlyStoppingHook``, which comes after the
    writing, is told the metrics again.
    """

    priority = 'LOWEST'  # the other hooks are ready then

    def __init__(self) -> None:
        self._validated: dict[str, Any] | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Remembers which validation a checkpoint holds."""
        self._validated = checkpoint.get(VALIDATED)

    def before_train(self, runner: Runner) -> None:
        """Validates, if the loop would have after the epoch or iteration of the checkpoint."""
        loop = runner.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        if not runner._resume or runner.val_loop is None or loop.iter == 0:
            return
        if not by_epoch and not isinstance(loop, IterBasedTrainLoop):
            return
        if by_epoch and loop.iter != loop.epoch * len(loop.dataloader):
            return  # inside an epoch
        if self._validated is not None and self._validated['iter'] == loop.iter:
            _tell_early_stopping(runner, self._validated['metrics'])
            return
        loop._decide_current_val_interval()
        done, last = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
        if done >= loop.val_begin and (done % loop.val_interval == 0 or done == last):
            runner.logger.info('Validates first: the checkpoint is from before its validation.')
            runner.val_loop.run()


def _tell_early_stopping(runner: Runner, metrics: dict[str, float]) -> None:
    writing = [i for i, hook in enumerate(runner.hooks) if isinstance(hook, CheckpointHook)]
    for hook in runner.hooks[max(writing, default=-1) + 1 :]:
        if isinstance(hook, EarlyStoppingHook):
            hook.after_val_epoch(runner, metrics)


def _run_later(loop: EpochBasedTrainLoop, first: int, idx: int, data_batch: Any) -> None:
    type(loop).run_iter(loop, idx + first, data_batch)


def make_resumable(runner: Runner) -> Runner:
    """Makes a run that is stopped and resumed end as one that was not.

    The Runner gets the hooks :class:`RandomStateHook`, :class:`ValidationAtResumeHook` and
    :class:`~dpk_mm.engine.hooks.kept_state_hook.KeptStateHook`, and data loaders with
    :class:`SeededBatches`.

    Args:
        runner: Not trained yet.

    Returns:
        ``runner``.
    """
    if any(isinstance(hook, RandomStateHook) for hook in runner.hooks):
        return runner
    build = runner.build_dataloader

    def build_seeded(*args: Any, **kwargs: Any) -> DataLoader:
        loader = build(*args, **kwargs)
        batches = getattr(loader, 'batch_sampler', None)
        if batches is not None and not isinstance(batches, SeededBatches):
            # Past DataLoader, which guards its attributes: given as an argument, it would lose
            # ``sampler`` and ``batch_size``, which hooks ask for.
            seeded = SeededBatches(batches, runner.seed, get_rank())
            object.__setattr__(loader, 'batch_sampler', seeded)
        return loader

    # On the object, since loops build their loaders, and loops of iterations start them at once.
    runner.build_dataloader = build_seeded
    runner.register_hook(RandomStateHook())
    runner.register_hook(KeptStateHook())
    runner.register_hook(ValidationAtResumeHook())
    return runner
