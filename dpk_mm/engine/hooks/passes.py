"""The unit of time of schedules: passes over the training data, whatever the loop counts."""

from __future__ import annotations

from typing import Any

from mmengine.dist import get_world_size
from mmengine.runner import IterBasedTrainLoop, Runner

from dpk_mm.errors import UsageError


def passes_so_far(runner: Runner) -> int:
    """Passes over the training data that are complete: the epoch, counted from 0.

    ``IterBasedTrainLoop`` takes the whole training for one epoch; there it is the iteration over
    :func:`iterations_of_a_pass`.
    """
    if not is_iteration_based(runner):
        return runner.epoch
    return runner.iter // iterations_of_a_pass(runner.train_loop.dataloader)


def is_iteration_based(runner: Runner) -> bool:
    """Whether the training is counted in iterations."""
    return isinstance(getattr(runner, 'train_loop', None), IterBasedTrainLoop)


def iterations_of_a_pass(loader: Any) -> int:
    """Iterations in which all processes together see every sample once, at least 1.

    Raises:
        UsageError: If the data have no length.
    """
    # With a batch sampler (AspectRatioBatchSampler) torch gives the loader an unused one of all samples.
    sampler = getattr(getattr(loader, 'batch_sampler', None), 'sampler', loader.sampler)
    try:
        length, samples, drawn = len(loader), len(loader.dataset), len(sampler)
    except TypeError:
        raise UsageError(
            'train_dataloader.dataset has no length, so there is no pass over the data by which a schedule could count '
            'under an iteration-based loop; set by_epoch=False in the mask-ratio hook.'
        ) from None
    processes = get_world_size()
    # Samplers without an end give every process all samples, and say so by their length.
    if processes > 1 and drawn == samples:
        length = -(-length // processes)
    return max(length, 1)
