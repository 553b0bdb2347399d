"""A data set whose random augmentation can be had again."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from dpk_mm.errors import UsageError

from ...models.teacher.stored_logits import StoredLogits
from ...models.teacher.stored_teacher import STORED


@DATASETS.register_module()
class ReplayDataset(Dataset):
    """Draws the random numbers of every image from its place, the pass over the data and one seed.

    The same image in the same pass is then augmented alike in every run, in whatever order and by whichever worker, so
    that the teacher's logits of it can be stored. Training sees ``passes`` different augmentations of each image and
    then begins again with the first. It is for epochs: ``ReplayHook``, which says which pass it is, has to be in the
    config.

    Args:
        dataset: The data set or its config, whose transforms draw from ``random``, ``numpy.random`` and ``torch``, as
            those of mmcv, mmpretrain and mmdet do.
        passes: Different augmentations of an image.
        seed: Of all of them.
        logits: Folder of stored logits, which join the data samples; None: none.

    Raises:
        UsageError: (a ValueError) If the logits are of another data set, seed or number of passes; at an image, if
            nothing has said which pass it is.
    """

    def __init__(
        self,
        dataset: Mapping[str, Any] | Dataset,
        passes: int,
        seed: int = 0,
        logits: str | os.PathLike[str] | None = None,
    ) -> None:
        self.fingerprint = fingerprint(dataset, seed)
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        self.passes = passes
        self.seed = seed
        self.logits = None
        if logits is not None:
            self.logits = StoredLogits(logits)
            self._check_logits(self.logits)
        # in shared memory: workers that live from epoch to epoch see it change
        self._number = torch.full((1,), -1, dtype=torch.int64).share_memory_()

    def _check_logits(self, logits: StoredLogits) -> None:
        for what, own, given in (
            ('images', len(self), logits.images),
            ('passes', self.passes, logits.passes),
            ('data set', self.fingerprint, logits.manifest['source'].get('dataset')),
        ):
            if own != given:
                raise UsageError(
                    f'train_dataloader.dataset.logits: {str(logits.folder)!r} was made for another {what} ({given}, '
                    f'here {own}); make it again with tools/store_logits.py, or give the data set, its pipeline, seed '
                    'and passes as they were.'
                )

    @property
    def metainfo(self) -> Any:
        """Of the data set inside."""
        return getattr(self.dataset, 'metainfo', {})

    def full_init(self) -> None:
        """Loads the annotations of the data set inside, where it is one of mmengine's."""
        getattr(self.dataset, 'full_init', lambda: None)()

    def get_data_info(self, index: int) -> Any:
        """Of the data set inside."""
        return self.dataset.get_data_info(index)

    def set_pass(self, number: int) -> None:
        """Says which pass over the data begins, counted from 0."""
        self._number[0] = number % self.passes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        number = int(self._number[0])
        if number < 0:
            raise UsageError(
                'ReplayDataset: nothing says which pass over the data it is; add default_hooks = '
                "dict(replay=dict(type='mmrazor.ReplayHook')) to the config."
            )
        with seeded(self.seed, number, index):
            item = self.dataset[index]
        if self.logits is not None:
            item['data_samples'].set_metainfo({STORED: self.logits.read(number, index)})
        return item


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Python's, numpy's and torch's random numbers from a seed of several numbers; afterwards as before."""
    words = np.random.SeedSequence(numbers).generate_state(3)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.random.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def fingerprint(dataset: Any, seed: int) -> str:
    """A hash of what decides the images that a data set gives: its config, or its class, and the seed."""
    described = dataset if isinstance(dataset, Mapping) else type(dataset).__qualname__
    text = json.dumps([described, seed], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
