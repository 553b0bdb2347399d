"""Epochs of KD from stored logits beside a live teacher and the student alone, data loading included."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.registry import TRANSFORMS, init_default_scope
from torch.utils.data import DataLoader, Dataset

from dpk_mm.engine.datasets import ReplayDataset
from dpk_mm.models.teacher.stored_logits import StoredLogits

from .rows import Row, rows_of
from .steps import baseline, build_step, load_config, with_losses
from .timing import Case, interleave

CONFIG = 'configs/dpk/cifar100/resnet56_resnet20.py'
PASSES = 2
TOP_K = 20


class _Drawn(Dataset):
    """Random images with the pipeline of a config."""

    def __init__(self, pipeline: list[dict], images: int, side: int, classes: int) -> None:
        self.pixels = np.random.default_rng(0).integers(
            0, 256, (images, side, side, 3), dtype=np.uint8
        )
        self.classes = classes
        self.pipeline = Compose([TRANSFORMS.build(dict(step)) for step in pipeline])

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Any:
        return self.pipeline(
            dict(
                img=self.pixels[index],
                gt_label=index % self.classes,
                sample_idx=index,
                img_shape=self.pixels.shape[1:3],
                ori_shape=self.pixels.shape[1:3],
            )
        )


def stored(
    rounds: int, device: str, batch_size: int = 64, batches: int = 2, side: int = 32
) -> list[Row]:
    """A few batches of an epoch on random images of CIFAR's size; one process loads and trains.

    Args:
        rounds: Counted epochs of each case.
        device: 'cpu' or 'cuda'.
        batch_size: N.
        batches: Of an epoch.
        side: Of the images.

    Returns:
        Rows; ratios are against the student alone. The note has the bytes on the disk.
    """
    from mmengine.dataset import default_collate

    cfg = load_config(CONFIG)
    init_default_scope('mmpretrain')
    classes = cfg.model.architecture.head.num_classes
    live = with_losses(cfg, ['loss_kd'])
    kept = copy.deepcopy(live)
    kept.model.teacher = dict(type='StoredTeacher', num_classes=classes)
    kept.model.distiller.records.feats = None
    data = _Drawn(cfg.train_pipeline, batch_size * batches, side, classes)
    with tempfile.TemporaryDirectory() as folder:
        replay = ReplayDataset(data, PASSES, 0)
        source = dict(dataset=replay.fingerprint)
        store = StoredLogits.create(folder, PASSES, len(data), classes, TOP_K, 1.0, source)
        for _ in range(PASSES):
            store.write(torch.randn(len(data), classes))
        store.save()
        replay = ReplayDataset(data, PASSES, 0, Path(folder))
        replay.set_pass(0)
        cases: dict[str, Case] = {}
        for name, part, images in (
            ('student alone', baseline(live), data),
            ('KD, live teacher', live, data),
            ('KD, stored logits', kept, replay),
        ):
            model, optimizer = build_step(part, device)
            loader = DataLoader(images, batch_size, shuffle=True, collate_fn=default_collate)
            cases[name] = _epoch(model, optimizer, loader)
        size = f'{store.size / (PASSES * len(data)):.0f} bytes an image and pass'
        timings = interleave(cases, rounds, 1, device)
    return rows_of('stored', timings, notes={'KD, stored logits': size})


def _epoch(model: Any, optimizer: Any, loader: DataLoader) -> Case:
    def run() -> None:
        for batch in loader:
            model.train_step(batch, optimizer)

    return run
