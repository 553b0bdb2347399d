"""A part of a validation: samples from each of its data sets, and an evaluator that knows which."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process
from mmengine.evaluator import BaseMetric, DumpResults, Evaluator
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset, Subset


def validation_sets(runner: Runner) -> list[tuple[DataLoader, Evaluator]]:
    """The data loaders and evaluators of a validation; a loop may have lists of them."""
    loop = runner.val_loop
    loaders = getattr(loop, 'dataloaders', None) or loop.dataloader
    evaluators = getattr(loop, 'evaluators', None) or loop.evaluator
    if isinstance(loaders, DataLoader):
        return [(loaders, evaluators)]
    if isinstance(evaluators, Evaluator):
        evaluators = [evaluators] * len(loaders)
    return list(zip(loaders, evaluators, strict=True))


#: Arguments of metrics that say where they write.
_PATHS = ('outfile_prefix', 'out_file_path')


@contextmanager
def evaluator_copy(evaluator: Evaluator) -> Iterator[Evaluator]:
    """A copy of an evaluator that may be changed, and that writes nothing where the other one does.

    What would be written to files that the config names (``outfile_prefix`` of mmdet's metrics) goes to a folder that
    is removed at the end; ``DumpResults`` is left out.
    """
    own = copy.deepcopy(evaluator)
    # Of an evaluator with a metric for each set the place of a metric counts.
    if not hasattr(own, 'dataset_prefixes'):
        own.metrics = [metric for metric in own.metrics if not isinstance(metric, DumpResults)]
    folders: list[Any] = [tempfile.mkdtemp(prefix='dpk_mm_') if is_main_process() else None]
    broadcast_object_list(folders)  # one rank reads what all of them wrote
    try:
        for number, metric in enumerate(own.metrics):
            for key in _PATHS:
                before = vars(metric).get(key)
                if isinstance(before, str) and before:
                    _move_paths(metric, before, os.path.join(folders[0], f'{number}.{key}'))
        yield own
    finally:
        if is_main_process():
            shutil.rmtree(folders[0], ignore_errors=True)


def _move_paths(metric: BaseMetric, before: str, after: str) -> None:
    if os.path.isdir(before):  # CityScapesMetric makes it when it is built
        os.makedirs(after, exist_ok=True)
    # CocoPanopticMetric and others derive the names of folders from it when they are built. What only begins alike,
    # such as the prefix of the metric's name, is something else.
    derived = tuple(f'{before}{mark}' for mark in ('.', '_', os.sep))
    for key, value in vars(metric).items():
        if isinstance(value, str) and (
            value.startswith(derived) or (key in _PATHS and value == before)
        ):
            setattr(metric, key, after + value[len(before) :])


class ValidationPart:
    """At most ``count`` samples of a data set, spread evenly; of a concatenated set some of each.

    Args:
        dataset: Of the validation.
        count: How many samples; None for all.
    """

    def __init__(self, dataset: Dataset, count: int | None = None) -> None:
        self.sizes = _sizes(dataset)
        self.total = sum(self.sizes)
        self.whole = count is None or count >= self.total
        self.indices = range(self.total) if self.whole else spread(self.sizes, count)
        self.dataset = dataset if self.whole else Subset(dataset, self.indices)
        self._meta = getattr(dataset, 'metainfo', None)
        ends = [*accumulate(self.sizes)]
        #: For each sample the number of its set.
        self.set_of = [next(k for k, end in enumerate(ends) if i < end) for i in self.indices]

    def evaluate(self, evaluator: Evaluator, model: Any, loader: DataLoader) -> dict:
        """Evaluates a model on these samples.

        Args:
            evaluator: Of the validation; it is copied.
            model: Its ``val_step`` is called.
            loader: Of :attr:`dataset`.

        Returns:
            The metrics by name, on every rank.
        """
        with evaluator_copy(evaluator) as own:
            return self.run(own, model, loader)

    def run(self, evaluator: Evaluator, model: Any, loader: DataLoader) -> dict:
        """Does the same with an evaluator that may be changed."""
        if self._meta is not None:
            evaluator.dataset_meta = self._meta_of_part()
        places = iter(loader.sampler)
        seen = []
        for batch in loader:
            outputs = model.val_step(batch)
            for sample in outputs:
                image = sample.get('img_id')
                seen.append((self.set_of[next(places)], image))
            evaluator.process(data_samples=outputs, data_batch=batch)
        if not self.whole:
            everywhere = [item for items in all_gather_object(seen) for item in items]
            self._restrict(evaluator, everywhere)
        return evaluator.evaluate(len(self.indices))

    def _meta_of_part(self) -> Any:
        if self.whole:
            return self._meta
        ends = [*accumulate(self.set_of.count(k) for k in range(len(self.sizes)))]
        # mmdet's evaluator of several sets cuts the results there
        several = not isinstance(self._meta, Mapping)
        metas = [
            {**meta, 'cumulative_sizes': ends} if 'cumulative_sizes' in meta else meta
            for meta in (self._meta if several else [self._meta])
        ]
        return metas if several else metas[0]

    def _restrict(self, evaluator: Evaluator, seen: Iterable[tuple[int, Any]]) -> None:
        """COCO's metric counts every image of its annotation file, and those that were not run as missed."""
        one_each = hasattr(evaluator, 'dataset_prefixes')
        for position, metric in enumerate(evaluator.metrics):
            images = {
                image
                for number, image in seen
                if image is not None and (not one_each or number == position)
            }
            if images and getattr(metric, 'img_ids', ...) is None:
                metric.img_ids = sorted(images)


def spread(sizes: Sequence[int], count: int) -> list[int]:
    """Indices that are spread evenly over concatenated sets, since many are sorted by class.

    Args:
        sizes: Of the sets.
        count: How many are chosen; more if there are more sets, since each has at least one, and all where there are
            no more.
    """
    total = sum(sizes)
    even = [i * total // count for i in range(count)]
    chosen, start = [], 0
    for size in sizes:
        share = sum(start <= index < start + size for index in even) or 1
        share = min(share, size)  # none twice
        chosen += [start + i * size // share for i in range(share)]
        start += size
    return chosen


def _sizes(dataset: Any) -> list[int]:
    ends = getattr(dataset, 'cumulative_sizes', None)
    if not ends:
        return [len(dataset)]
    return [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]
