"""How well DPK's transformation modules rebuild the teacher's feature, by the share of tokens that the teacher gives.

The student learns through the error of the hybrid feature. Where a module does not even rebuild the teacher from the
teacher's own tokens (ratio 1), most of that error is the module's and not the student's: it needs more iterations, a
larger learning rate or more width before a prior, or a mask ratio, can matter.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ..engine.datasets.replay_dataset import seeded
from ..engine.runner.prepare import prepare_config
from ..errors import UsageError
from ..models.losses import DPKLoss
from ..modules import MaskRatioPolicy
from ..modules.hybrid_transform import FeatureTransform
from .feature_similarity import image_loader
from .loading import build_model, dpk_losses, load_distillation, read_config, scope_of

PARTS = ('train', 'val')
RATIOS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class HybridError:
    """Errors of one stage, as shares of the teacher's variance: ``sum (H - T)^2 / sum (T - mean_c T)^2``.

    0 is the teacher's feature; 1 is no better than its mean in each channel.

    Attributes:
        loss: Name of the ``DPKLoss``.
        stage: Key of its ``transforms``.
        by_ratio: Mask ratio -> error of the hybrid; only ratio 0 for a module that masks nothing.
        student: Error of the student's feature itself, without any module; None where its shape differs.
    """

    loss: str
    stage: str
    by_ratio: dict[float, float]
    student: float | None


class _Sums:
    """Squared errors of several features against one teacher, in float64."""

    def __init__(self) -> None:
        self.errors: dict[Any, float] = {}
        self.teacher: Tensor | None = None  # [3, C]: count, sum, sum of squares

    def add_teacher(self, teacher: Tensor) -> None:
        t = teacher.double().transpose(0, 1).flatten(1)
        sums = torch.stack([torch.full_like(t[:, 0], t.shape[1]), t.sum(1), t.square().sum(1)])
        self.teacher = sums if self.teacher is None else self.teacher + sums

    def add(self, key: Any, feature: Tensor, teacher: Tensor) -> None:
        error = (feature.double() - teacher.double()).square().sum().item()
        self.errors[key] = self.errors.get(key, 0.0) + error

    def share(self, key: Any) -> float:
        assert self.teacher is not None
        count, total, squares = self.teacher
        variance = (squares - total.square() / count).sum().item()
        return self.errors[key] / variance if variance > 0 else float('nan')


def _random(
    transform: FeatureTransform, ratio: float, student: Tensor, teacher: Tensor
) -> tuple[Tensor, None]:
    return transform(student, teacher, ratio), None


class _Measure(MaskRatioPolicy):
    """Takes the place of a loss's mask-ratio policy, which is given the features of every stage."""

    def __init__(self, loss: DPKLoss, ratios: Sequence[float]) -> None:
        super().__init__(0.0, 1.0)
        self.loss = loss
        self.mask_ratios = tuple(ratios)
        self.sums = {stage: _Sums() for stage in loss.stages}

    def unclamped_ratios(self, features: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        for name, (student, teacher) in features.items():
            transform, sums = self.loss.transforms[name], self.sums[name]
            sums.add_teacher(teacher)
            for ratio in self.mask_ratios if transform.uses_mask else (0.0,):
                # Random tokens, also where the training chooses them by a rule.
                hybrid, _ = self.loss.stages[name].in_windows(
                    transform, student, teacher, partial(_random, transform, ratio)
                )
                sums.add(ratio, hybrid, teacher)
            if student.shape == teacher.shape:
                sums.add('student', student, teacher)
        return dict.fromkeys(features, 0.5)

    def rows(self, loss: str) -> list[HybridError]:
        return [
            HybridError(
                loss,
                stage,
                {key: sums.share(key) for key in sums.errors if key != 'student'},
                sums.share('student') if 'student' in sums.errors else None,
            )
            for stage, sums in self.sums.items()
        ]


@torch.no_grad()
def measure_hybrid_error(
    config: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str],
    teacher_ckpt: str | None = None,
    part: str = 'val',
    batches: int = 16,
    ratios: Sequence[float] = RATIOS,
    options: Mapping[str, Any] | None = None,
    device: str | torch.device = 'cpu',
) -> list[HybridError]:
    """Runs teacher, student and modules of a training on some of its images.

    Args:
        config: Of a distillation with a ``DPKLoss``.
        checkpoint: A full checkpoint of that training, with the modules; a student-only one has none.
        teacher_ckpt: The teacher's checkpoint, in place of the config's.
        part: 'val' or 'train', the dataloader; its images in the shuffled order of a fixed seed, see
            :func:`~dpk_mm.analysis.feature_similarity.image_loader`. Its pipeline has to load the ground truth.
        batches: How many full batches, at least 1; fewer if there are no more.
        ratios: Mask ratios, each in [0, 1].
        options: ``--cfg-options``.
        device: Torch device.

    Returns:
        One row for each stage.

    Raises:
        UsageError: If the config has no ``DPKLoss`` or no such dataloader, the checkpoint does not fit, or there are
            fewer images than a batch has.
    """
    if part not in PARTS:
        raise UsageError(f'the part must be one of {", ".join(PARTS)}, but is {part!r}.')
    if batches < 1 or not ratios or not all(0 <= ratio <= 1 for ratio in ratios):
        raise UsageError(
            f'at least one batch and ratios in [0, 1] are needed, but found {batches} and {list(ratios)}.'
        )
    cfg = prepare_config(read_config(config, options, teacher_ckpt), teacher_ckpt=teacher_ckpt)
    model = build_model(cfg)
    losses = dpk_losses(model, config)
    load_distillation(model, checkpoint, cfg.model.get('teacher_ckpt'))
    model.to(device)
    measures = {name: _Measure(loss, ratios) for name, loss in losses.items()}
    for name, loss in losses.items():
        loss.mask_ratio = measures[name]

    # A seed for masks and augmentations, so that two calls give the same numbers; the caller's generators stay.
    cuda = [*range(torch.cuda.device_count())] if torch.cuda.is_initialized() else []
    with seeded(0), torch.random.fork_rng(devices=cuda), scope_of(cfg):
        torch.manual_seed(0)
        loader = image_loader(cfg, part)
        if not len(loader):
            raise UsageError(
                f'the {part} part has fewer images than a batch of {loader.batch_size}: set '
                f'{part}_dataloader.batch_size to a smaller number (--cfg-options).'
            )
        for batch in islice(loader, batches):
            model(**model.data_preprocessor(batch, training=False), mode='loss')
    return [row for name, measure in measures.items() for row in measure.rows(name)]
