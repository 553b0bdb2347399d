"""Part f: students of several methods and seeds on small images that stay on the device."""

from __future__ import annotations

import math
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.optim import build_optim_wrapper
from mmengine.runner.checkpoint import load_checkpoint
from mmpretrain.structures import DataSample
from mmrazor.registry import MODELS
from torch import Tensor, nn

from dpk_mm.models.loss_parts.warmup import Warmup

from ..benchmark_suites.steps import bind_mask_ratio, load_config
from .grid import GRID, losses_of
from .images import Images, augment, make_images, read_images
from .record import Options, Record

ROOT = Path(__file__).resolve().parents[2]
PAIR = 'cifar100/resnet56_resnet20'
RATE = 0.1  # at 256 images a step, in proportion for others


class Job(NamedTuple):
    """One run, with all that a process needs for it.

    Attributes:
        method: Name of the grid; 'teacher' trains the teacher.
        seed: Of weights and batches.
        epochs: Of the run.
        batch_size: N.
        config: The pair.
        data: File of the images.
        teacher: Its checkpoint; written by the run 'teacher'.
        device: 'cuda' or 'cpu'.
        deadline: On the monotonic clock; a run that cannot keep it gives up.
    """

    method: str
    seed: int
    epochs: int
    batch_size: int
    config: str
    data: str
    teacher: str
    device: str
    deadline: float


def run(options: Options, record: Record) -> None:
    """A row for each run, as they end; seed by seed, so that what the time allows is balanced over methods."""
    with tempfile.TemporaryDirectory() as folder:
        data, classes = _data(options)
        file = Path(folder) / 'images.pt'
        torch.save((data, classes), file)
        pair = options.config or PAIR
        what = f'{pair}, {Path(options.data).name or "generated images"}, {len(data["train"].labels)} images'
        epochs = options.epochs or (1 if options.tiny else 12)
        job = Job(
            'teacher',
            0,
            epochs,
            8 if options.tiny else 256,
            pair,
            str(file),
            options.teacher or str(Path(folder) / 'teacher.pth'),
            options.device,
            time.monotonic() + record.left - 3,
        )
        if not options.teacher:
            with record.attempt(what=what, case='teacher', seed=0, epochs=epochs) as row:
                row.update(train(job))
        names = options.methods or tuple(GRID)[: 3 if options.tiny else None]
        seeds = 1 if options.tiny else options.seeds
        jobs = [job._replace(method=n, seed=s) for s in range(seeds) for n in names]
        workers = options.jobs or (6 if options.device == 'cuda' else 1)
        for done, found in _all(jobs, workers):
            record.add(what=what, case=done.method, seed=done.seed, epochs=epochs, **found)


def _data(options: Options) -> tuple[dict[str, Images], int]:
    if options.data:
        data, names = read_images(options.data)
        return data, len(names)
    counts = (32, 16) if options.tiny else (20000, 4000)
    data = {
        part: make_images(count, 100, seed)
        for seed, (part, count) in enumerate(zip(('train', 'test'), counts, strict=True))
    }
    return data, 100


def _all(jobs: list[Job], workers: int) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Runs in as many processes as there are workers; one of them needs no other process."""
    if workers == 1:
        for job in jobs:
            yield job, safely(job)[1]
        return
    # CUDA cannot be used in a fork of a process that has used it
    with multiprocessing.get_context('spawn').Pool(min(workers, len(jobs))) as pool:
        yield from pool.imap_unordered(safely, jobs)


def safely(job: Job) -> tuple[Job, dict[str, Any]]:
    """A run whose error is a part of its row."""
    try:
        return job, train(job)
    except Exception as error:
        return job, dict(error=f'{type(error).__name__}: {str(error)[:500]}')


def model_of(job: Job, num_images: int, num_classes: int) -> tuple[nn.Module, nn.Module]:
    """The model that is trained, and the classifier in it that is tested."""
    cfg = load_config(str(ROOT / 'configs' / '_base_' / 'pairs' / f'{job.config}.py'))
    for side in ('architecture', 'teacher'):
        cfg.model[side].head.num_classes = num_classes
        cfg.model[side].data_preprocessor.num_classes = num_classes
    if job.method == 'teacher':
        cfg.model.teacher.head.loss = cfg.model.architecture.head.get('loss')
        model = MODELS.build(cfg.model.teacher)
        model.init_weights()
        return model, model
    method = losses_of(job.method, num_images, num_classes)
    if method is None:
        model = MODELS.build(cfg.model.architecture)
        model.init_weights()
        return model, model
    cfg.model.distiller.distill_losses = method(job.config)
    model = MODELS.build(cfg.model)
    model.architecture.init_weights()
    load_checkpoint(model.teacher, job.teacher, map_location='cpu', strict=True)
    cfg.default_hooks.mask_ratio = dict(type='mmrazor.CKAMaskRatioHook', samples='images')
    bind_mask_ratio(model, cfg)
    return model, model.architecture


def train(job: Job) -> dict[str, Any]:
    """Trains and tests one model.

    Returns:
        ``accuracy`` in percent after the last epoch, ``training`` in seconds; ``error`` where the time was too short.
    """
    torch.manual_seed(job.seed)
    data, num_classes = torch.load(job.data, weights_only=False)
    parts = {name: Images(*(t.to(job.device) for t in part)) for name, part in data.items()}
    images = parts['train']
    count = len(images.labels)
    model, network = model_of(job, count, num_classes)
    model = model.to(job.device)
    steps = max(1, count // job.batch_size)
    rate = RATE * job.batch_size / 256
    wrapper = build_optim_wrapper(
        model,
        dict(optimizer=dict(type='SGD', lr=rate, momentum=0.9, weight_decay=5e-4, nesterov=True)),
    )
    warmups = [m.warmup for m in model.modules() if isinstance(getattr(m, 'warmup', None), Warmup)]
    samples = [
        DataSample(metainfo=dict(sample_idx=i)).set_gt_label(label)
        for i, label in enumerate(images.labels.tolist())
    ]
    began = time.monotonic()
    for epoch in range(job.epochs):
        model.train()
        for warmup in warmups:
            warmup.done = epoch
        order = torch.randperm(count)
        for step in range(steps):
            for group in wrapper.param_groups:
                group['lr'] = rate * _schedule(epoch * steps + step, job.epochs * steps, steps)
            chosen = order[step * job.batch_size : (step + 1) * job.batch_size]
            batch = augment(images.pixels[chosen.to(job.device)])
            given = [samples[i] for i in chosen.tolist()]
            model.train_step(dict(inputs=batch, data_samples=given), wrapper)
        # what the epochs so far took says whether the others fit
        needed = (time.monotonic() - began) / (epoch + 1) * (job.epochs - epoch - 1)
        if time.monotonic() + needed > job.deadline:
            return dict(error=f'no time: gave up after {epoch + 1} of {job.epochs} epochs.')
    taken = time.monotonic() - began
    if job.method == 'teacher':
        torch.save(dict(state_dict=network.state_dict()), job.teacher)
    return dict(accuracy=accuracy(network, parts['test']), training=taken)


def _schedule(step: int, steps: int, warmup: int) -> float:
    """A linear rise in the first epoch, then half a cosine."""
    warmup = min(warmup, steps // 10)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@torch.no_grad()
def accuracy(network: nn.Module, images: Images, batch_size: int = 500) -> float:
    """Share of the images whose class has the highest logit, in percent."""
    network.eval()
    right: Tensor | int = 0
    for begin in range(0, len(images.labels), batch_size):
        part = images.pixels[begin : begin + batch_size]
        inputs = network.data_preprocessor(dict(inputs=part), False)['inputs']
        found = network(inputs, mode='tensor').argmax(1)
        right = right + (found == images.labels[begin : begin + batch_size]).sum()
    return 100 * float(right) / len(images.labels)
