"""Mask-ratio policies: how much of the hybrid feature the teacher gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..functional.similarity import (
    MIN_SAMPLES,
    cka_from_sums,
    hsic_sums,
    mean_cosine_similarity,
    positions_as_samples,
)

Features = Mapping[str, tuple[Tensor, Tensor]]
"""Stage name -> (student ``[N, C_s, H, W]``, teacher ``[N, C_t, H, W]``)."""


def _check_share(name: str, value: float) -> float:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f'{name} must be in [0, 1], but is {value}.')
    return float(value)


class MaskRatioPolicy:
    """Base of all policies: features of a mini-batch in, one ratio for every stage out.

    The ratio is a schedule and not a loss: it is computed without gradient, in float32 outside autocast, and is the
    same on every rank.

    Ratios are clamped to [min_ratio, max_ratio]. CKA of unrelated features is often negative, so ``1 - CKA`` can
    exceed 1; and at exactly 0 or 1 one encoder would see nothing and the student no gradient. [0.10, 0.95] is the range
    that the authors' code uses on ImageNet; the paper's text names none.

    Args:
        min_ratio (float): Lower clamp in [0, 1].
        max_ratio (float): Upper clamp in [min_ratio, 1].

    Attributes:
        ratios (dict[str, float]): The ratio of each stage in the last mini-batch.
        similarities (dict[str, float]): The similarity that it came from, where there is one.

    Raises:
        ValueError: If a limit is outside [0, 1] or the limits are crossed.
    """

    def __init__(self, min_ratio: float = 0.1, max_ratio: float = 0.95) -> None:
        self.min_ratio = _check_share('min_ratio', min_ratio)
        self.max_ratio = _check_share('max_ratio', max_ratio)
        if min_ratio > max_ratio:
            raise ValueError(f'min_ratio ({min_ratio}) must not exceed max_ratio ({max_ratio}).')
        self.epoch = 0
        self.ratios: dict[str, float] = {}
        self.similarities: dict[str, float] = {}

    def __call__(self, features: Features) -> dict[str, float]:
        """Ratio of every stage for this mini-batch, each in [min_ratio, max_ratio]."""
        with torch.no_grad():
            wanted = self.wanted(features)
        self.ratios = {name: self._clamp(value) for name, value in wanted.items()}
        return self.ratios

    def wanted(self, features: Features) -> dict[str, float]:
        """The ratio of every stage before the clamp."""
        raise NotImplementedError

    def _clamp(self, value: float) -> float:
        return min(max(value, self.min_ratio), self.max_ratio)

    def set_epoch(self, epoch: int) -> None:
        """Tells a schedule the epoch, counted from 0."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: plain numbers only."""
        return dict(
            type=type(self).__name__,
            epoch=self.epoch,
            ratios=dict(self.ratios),
            similarities=dict(self.similarities),
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave."""
        self.epoch = int(state['epoch'])
        self.ratios = dict(state['ratios'])
        self.similarities = dict(state['similarities'])


class FixedMaskRatio(MaskRatioPolicy):
    """The same ratio always (Table 5).

    Args:
        ratio (float): pi in [0, 1]; it is taken as it is, 0 and 1 included.
    """

    def __init__(self, ratio: float = 0.5) -> None:
        super().__init__(min_ratio=0.0, max_ratio=1.0)
        self.ratio = _check_share('ratio', ratio)

    def wanted(self, features: Features) -> dict[str, float]:
        return dict.fromkeys(features, self.ratio)


class LinearMaskRatio(MaskRatioPolicy):
    """``pi = initial - epoch * decrement`` (Table 6).

    The text says "decrement = 0.95", which would reach zero after one epoch. The authors' code is
    ``(1 - epoch / 200) * 0.95``: it starts at 0.95 and loses 0.00475 an epoch. That is the default.

    Args:
        initial (float): Ratio of the first epoch.
        decrement (float): What every epoch takes off, at least 0.
        min_ratio (float): Lower clamp.
        max_ratio (float): Upper clamp.
    """

    def __init__(
        self,
        initial: float = 0.95,
        decrement: float = 0.00475,
        min_ratio: float = 0.1,
        max_ratio: float = 0.95,
    ) -> None:
        super().__init__(min_ratio, max_ratio)
        self.initial = _check_share('initial', initial)
        if decrement < 0:
            raise ValueError(f'decrement must be at least 0, but is {decrement}.')
        self.decrement = decrement

    def wanted(self, features: Features) -> dict[str, float]:
        return dict.fromkeys(features, self.initial - self.epoch * self.decrement)


class ExponentialMaskRatio(MaskRatioPolicy):
    """``pi = initial * decay ** epoch`` (Table 6). The text's decay is 0.95, the authors' code has 0.99.

    Args:
        initial (float): Ratio of the first epoch.
        decay (float): Factor of every epoch, in [0, 1].
        min_ratio (float): Lower clamp.
        max_ratio (float): Upper clamp.
    """

    def __init__(
        self,
        initial: float = 1.0,
        decay: float = 0.95,
        min_ratio: float = 0.1,
        max_ratio: float = 0.95,
    ) -> None:
        super().__init__(min_ratio, max_ratio)
        self.initial = _check_share('initial', initial)
        self.decay = _check_share('decay', decay)

    def wanted(self, features: Features) -> dict[str, float]:
        return dict.fromkeys(features, self.initial * self.decay**self.epoch)


class _SimilarityMaskRatio(MaskRatioPolicy):
    """``pi = 1 - similarity`` of this very mini-batch, all stages with one transfer to the host."""

    def wanted(self, features: Features) -> dict[str, float]:
        sums = torch.stack([self.terms(name, *pair) for name, pair in features.items()])
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(sums)  # every rank must mask the same share
        # One host-device synchronisation for all stages: the count of tokens has to be a number.
        values = self.similarity(sums).tolist()
        wanted = {}
        for name, value in zip(features, values, strict=True):
            if math.isfinite(value):
                self.similarities[name] = value
                wanted[name] = 1.0 - value
            else:
                # Too few samples on every rank, or a feature that is not finite: keep what was; the loss itself
                # reports the latter.
                wanted[name] = self.ratios.get(name, self.max_ratio)
        return wanted

    def terms(self, name: str, student: Tensor, teacher: Tensor) -> Tensor:
        """This rank's summands, float64."""
        raise NotImplementedError

    def similarity(self, sums: Tensor) -> Tensor:
        """``[stages, terms]``, summed over ranks -> ``[stages]``."""
        raise NotImplementedError


class CKAMaskRatio(_SimilarityMaskRatio):
    """``pi = 1 - CKA_minibatch`` (Eq. 5-7), the paper's choice.

    The estimator needs at least four samples. With ``samples='images'`` (the paper) these are the images of the
    mini-batch; the three HSIC values are averaged over ranks before the division, as Eq. 7 does over mini-batches.
    Detectors train with two images on a GPU, where Eq. 6 divides by zero: the authors' code then fell back to a
    constant 0.5. ``samples='positions'`` takes every position of every image as a sample of C numbers instead, with the
    same formula. ``gather`` brings the images of all ranks together first, so that eight GPUs with two images each
    have sixteen samples.

    A constant feature has similarity 0. A batch with too few images keeps the ratio of the one before.

    Args:
        samples (str): 'images' or 'positions'.
        gather (bool): With 'images': gather the features of all ranks (they need the same shape).
        min_ratio (float): Lower clamp.
        max_ratio (float): Upper clamp.

    Raises:
        ValueError: If ``samples`` is unknown, or at the first mini-batch if it holds fewer than four images
            (over all ranks with ``gather``) and there is no ratio to keep.
    """

    SAMPLES = ('images', 'positions')

    def __init__(
        self,
        samples: str = 'images',
        gather: bool = False,
        min_ratio: float = 0.1,
        max_ratio: float = 0.95,
    ) -> None:
        super().__init__(min_ratio, max_ratio)
        if samples not in self.SAMPLES:
            raise ValueError(f'samples must be one of {self.SAMPLES}, but is {samples!r}.')
        if gather and samples == 'positions':
            raise ValueError("gather=True needs samples='images'; positions need no gathering.")
        self.samples = samples
        self.gather = gather

    def terms(self, name: str, student: Tensor, teacher: Tensor) -> Tensor:
        if self.samples == 'positions':
            if student.shape[-2:] != teacher.shape[-2:]:
                student = torch.nn.functional.interpolate(
                    student.float(), teacher.shape[-2:], mode='bilinear', align_corners=False
                )
            student, teacher = positions_as_samples(student), positions_as_samples(teacher)
        elif self.gather:
            student, teacher = _gather_images(student), _gather_images(teacher)
        if student.shape[0] < MIN_SAMPLES:
            if name not in self.ratios:
                raise ValueError(
                    f'CKA needs at least {MIN_SAMPLES} samples, but stage {name!r} has {student.shape[0]} '
                    f"{self.samples} in the mini-batch; raise batch_size, or set samples='positions' or "
                    'gather=True (several GPUs) in CKAMaskRatioHook.'
                )
            return torch.zeros(4, dtype=torch.float64, device=student.device)
        one = torch.ones(1, dtype=torch.float64, device=student.device)
        return torch.cat([hsic_sums(student, teacher), one])

    def similarity(self, sums: Tensor) -> Tensor:
        # The last term counts the ranks that had enough samples: 0 / 0 says that none had.
        return cka_from_sums(sums[:, :3] / sums[:, 3:])


class CosineMaskRatio(_SimilarityMaskRatio):
    """``pi = 1 - cosine similarity`` (Table 6), mean over images, channels and ranks.

    Student and teacher need features of the same shape.
    """

    def terms(self, name: str, student: Tensor, teacher: Tensor) -> Tensor:
        cosine = mean_cosine_similarity(student, teacher)
        return torch.stack([cosine, torch.ones_like(cosine)])

    def similarity(self, sums: Tensor) -> Tensor:
        return sums[:, 0] / sums[:, 1]


def _gather_images(feature: Tensor) -> Tensor:
    if not (dist.is_available() and dist.is_initialized()):
        return feature
    parts = [torch.empty_like(feature) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, feature.contiguous())
    return torch.cat(parts)
