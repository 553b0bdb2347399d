"""Runs a teacher over replayed data and stores its logits."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import FUNCTIONS, init_default_scope
from mmrazor.registry import MODELS
from torch.utils.data import DataLoader, Subset

from dpk_mm.errors import UsageError

from ...models.algorithms import DPKDistill
from ...models.teacher.checkpoint import load_teacher
from ...models.teacher.normalisation import read_normalisation
from ...models.teacher.stored_logits import StoredLogits
from ..datasets.replay_dataset import ReplayDataset

SAVE_EVERY = 50  # batches


def store_logits(
    cfg: Config,
    folder: str | os.PathLike[str],
    passes: int,
    top_k: int,
    tau: float,
    seed: int = 0,
    record: str = 'logits',
    device: str | None = None,
    say: Callable[[str], Any] = print,
) -> StoredLogits:
    """Stores what the teacher of a distillation gives for every image in every pass.

    The images are those that a ``ReplayDataset`` of the same data set, seed and passes gives in training. A run that
    was ended goes on where it last saved, and one that is whole does nothing.

    Args:
        cfg: Of the distillation, with its live teacher.
        folder: Where the logits go.
        passes: Different augmentations of an image.
        top_k: Logits that are kept of each.
        tau: Temperature at which the others are summed: that of the loss.
        seed: Of the augmentation.
        record: Name of the teacher's record that holds the logits.
        device: CUDA if there is one.
        say: Gets lines about the progress.

    Raises:
        UsageError: (a ValueError) If the config has no teacher or no such record, or the folder holds something else.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    device = device or get_device()
    if cfg.get('data_preprocessor'):
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)  # as the Runner does
    model = MODELS.build(cfg.model)
    if not isinstance(model, DPKDistill) or not model.teacher_ckpt:
        raise UsageError(
            'The config has no DPKDistill with a teacher_ckpt; give the config of a distillation whose teacher is '
            'trained.'
        )
    if record not in model.distiller.teacher_recorders.recorders:
        known = ', '.join(model.distiller.teacher_recorders.recorders)
        raise UsageError(
            f'--record: the teacher has no record {record!r}, only {known or "none"}; add records=dict({record}=...) '
            'to the distiller.'
        )
    load_teacher(model.teacher, model.teacher_ckpt, model.teacher_command, model.averaged_weights)
    model = model.to(device).eval()
    loader_cfg = cfg.train_dataloader
    dataset = ReplayDataset(loader_cfg.dataset, passes, seed)
    source = dict(
        dataset=dataset.fingerprint,
        teacher=_teacher(cfg, model.teacher_ckpt),
        seed=seed,
        **_settings(model, record),
    )
    collate = FUNCTIONS.get(loader_cfg.get('collate_fn', dict(type='pseudo_collate'))['type'])
    dataset.set_pass(0)
    classes = _logits(model, collate([dataset[0]]), record).shape[1]
    store = StoredLogits.create(folder, passes, len(dataset), classes, top_k, tau, source)
    for number in range(passes):
        # a pass that was begun goes on
        begin = min(len(dataset), max(0, store.done - number * len(dataset)))
        if begin == len(dataset):
            continue
        dataset.set_pass(number)
        loader = DataLoader(
            Subset(dataset, range(begin, len(dataset))),
            batch_size=loader_cfg.batch_size,
            num_workers=loader_cfg.get('num_workers', 0),
            collate_fn=collate,
        )
        for count, batch in enumerate(loader, 1):
            store.write(_logits(model, batch, record))
            if count % SAVE_EVERY == 0:
                store.save()
        store.save()
        say(f'pass {number + 1} of {passes}: {store.done} of {passes * len(dataset)} images')
    say(f'{store.folder}: {store.size / 2**20:.1f} MiB, whole')
    return store


@torch.no_grad()
def _logits(model: DPKDistill, batch: Any, record: str) -> torch.Tensor:
    """What the losses of the distillation would get of a batch."""
    data = model.data_preprocessor(batch, False)
    with model.distiller.teacher_recorders:
        model._run_teacher(data['inputs'], data['data_samples'])
    logits = model.distiller.get_record(record, from_student=False)
    model.distiller.clear_records()
    return logits


def _settings(model: DPKDistill, record: str) -> dict[str, Any]:
    """What else changes the logits, as the built model has it: a config need not name what it takes over."""
    recorder = model.distiller.teacher_recorders.recorders[record]
    own, given = map(read_normalisation, (model.data_preprocessor, model.teacher.data_preprocessor))
    # where one is not known, the teacher sees the student's images as they are
    seen = given if own is not None and given is not None else own
    return dict(
        record=[record, type(recorder).__name__, getattr(recorder, 'source', None)],
        averaged_weights=model.averaged_weights,
        teacher_input_size=None if model._resizing is None else list(model._resizing.size),
        teacher_precision=model.teacher_precision,
        normalisation=type(model.data_preprocessor).__name__
        if seen is None
        else [seen.mean.tolist(), seen.std.tolist(), seen.swaps, seen.pad_value],
    )


def _teacher(cfg: Config, checkpoint: str) -> str:
    """A hash of the teacher's config and of its checkpoint's content, or of its address."""
    text = json.dumps(cfg.model.teacher, sort_keys=True, default=str).encode()
    if os.path.isfile(checkpoint):
        with open(checkpoint, 'rb') as file:
            text += hashlib.file_digest(file, 'sha256').digest()
    else:
        text += checkpoint.encode()
    return hashlib.sha256(text).hexdigest()[:16]
