"""Ratios that depend on the similarity of student and teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ...functional.host_copy import HostCopy
from ...functional.similarity import (
    MIN_SAMPLES,
    cka_from_sums,
    hsic_sums,
    mean_cosine_similarity,
    positions_as_samples,
)
from .averages import Average, ExponentialMean, WindowMean
from .policy import Features, MaskRatioPolicy
from .stages import PerStage


class SimilarityMaskRatio(MaskRatioPolicy):
    """``pi = 1 - similarity``: base of the policies that compare the features.

    Each stage gives a few numbers per mini-batch (CKA: the three HSIC values of Eq. 6; cosine: the cosine). They are
    averaged over the ranks that have them, then over mini-batches, and only then become a similarity, as Eq. 7 does.
    With v_t of the present mini-batch and k = ``window``, m = ``momentum``, that average is

    - ``sum_{i=t-k+1..t} v_i / k``: the last k mini-batches, the present one included (fewer at the start), or
    - ``sum_{i=1..t} m^(t-i) v_i / sum_{i=1..t} m^(t-i)``: an exponential moving average, without a start value.

    A mini-batch without a value (too few samples on every rank, or a feature that is not finite) leaves the average
    and the ratio as they were.

    The ratio decides the number of tokens, which the host has to know, so on CUDA the host waits for the features in
    the middle of the forward pass. ``one_step_late`` takes the features of the mini-batch before instead (the first
    mini-batch its own), which are on the host by then, so that it does not wait.

    Args:
        window: k of Eq. 7, at least 1. 1 is the present mini-batch alone (authors' code).
        momentum: m in [0, 1) of the exponential moving average; 0 takes ``window`` instead.
        min_ratio: Lower clamp.
        max_ratio: Upper clamp.
        one_step_late: Whether the ratio is that of the mini-batch before.

    Raises:
        ValueError: If ``window`` or ``momentum`` is out of its range, or both are set.
    """

    def __init__(
        self,
        window: int = 1,
        momentum: float = 0.0,
        min_ratio: PerStage = 0.1,
        max_ratio: PerStage = 0.95,
        one_step_late: bool = False,
    ) -> None:
        super().__init__(min_ratio, max_ratio)
        if not isinstance(window, int) or isinstance(window, bool) or window < 1:
            raise ValueError(f'window must be a whole number of at least 1, but is {window!r}.')
        if not isinstance(momentum, (int, float)) or not 0.0 <= momentum < 1.0:
            raise ValueError(f'momentum must be in [0, 1), but is {momentum!r}.')
        if window > 1 and momentum > 0:
            raise ValueError(
                f'window ({window}) and momentum ({momentum}) are two ways to average; set only one of them.'
            )
        self.window = window
        self.momentum = float(momentum)
        self.one_step_late = one_step_late
        self._averages: dict[str, Average] = {}
        # one step late: the numbers of the mini-batch before, by the stages of one call
        self._waiting: dict[tuple[str, ...], HostCopy] = {}

    @property
    def has_state(self) -> bool:
        """With an average over several mini-batches, or one step late."""
        return self._averages_many or self.one_step_late

    @property
    def _averages_many(self) -> bool:
        return self.window > 1 or self.momentum > 0

    def unclamped_ratios(self, features: Features) -> dict[str, float]:
        """``1 - similarity`` of each stage.

        Raises:
            ValueError: At the first mini-batch of a stage, if no rank has enough samples.
        """
        terms = torch.stack([self.terms(name, *pair) for name, pair in features.items()])
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(terms)  # every rank must mask the same share
        own = True  # whether these are the numbers of this mini-batch
        if self.one_step_late:
            stages = tuple(features)
            before, self._waiting[stages] = self._waiting.get(stages), HostCopy(terms)
            own = before is None
            terms = terms.cpu() if before is None else before.get()
        else:
            # One host-device synchronisation for all stages: the host has to know the number of tokens.
            terms = terms.cpu()
        unclamped = {}
        for (name, pair), row in zip(features.items(), terms, strict=True):
            ranks = row[-1].item()
            if ranks == 0 and name not in self.ratios:
                # After the all-reduce, so that all ranks raise and none waits.
                raise ValueError(self.too_few(name, *pair))
            value = row[:-1] / ranks if ranks else row[:-1] * torch.nan
            if value.isfinite().all():
                # One step late, the first mini-batch is averaged at the next call, and not twice.
                again = self.one_step_late and own
                mean = value if again else self._average(name).update(value)
                self.similarities[name] = self.similarity(mean).item()
                unclamped[name] = 1.0 - self.similarities[name]
            else:
                # The loss itself reports features that are not finite.
                unclamped[name] = self.ratios.get(name, self.argument_for('max_ratio', name))
        return unclamped

    def _average(self, stage: str) -> Average:
        if stage not in self._averages:
            self._averages[stage] = (
                ExponentialMean(self.momentum) if self.momentum else WindowMean(self.window)
            )
        return self._averages[stage]

    def terms(self, name: str, student: Tensor, teacher: Tensor) -> Tensor:
        """The numbers of this rank that are averaged, such as HSIC.

        Args:
            name: The stage.
            student: ``[N, C_s, H, W]``.
            teacher: ``[N, C_t, H, W]``.

        Returns:
            ``[n + 1]`` float64: n numbers and a 1, which counts ranks; zeros if there are too few samples.
        """
        raise NotImplementedError

    def similarity(self, mean: Tensor) -> Tensor:
        """Averaged numbers ``[n]`` -> the similarity, a scalar."""
        raise NotImplementedError

    def too_few(self, name: str, student: Tensor, teacher: Tensor) -> str:
        """The error's sentence for a first mini-batch in which no rank has enough samples."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`MaskRatioPolicy.state_dict`; with the averages."""
        history = {name: average.state_dict() for name, average in self._averages.items()}
        waiting = [
            dict(stages=list(stages), values=copy.get().tolist())
            for stages, copy in self._waiting.items()
        ]
        return dict(
            super().state_dict(),
            history=history if self._averages_many else {},
            waiting=waiting,
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave; a smaller ``window`` keeps its newest mini-batches."""
        super().load_state_dict(state)
        self._averages = {}
        for name, average in state.get('history', {}).items():
            self._average(name).load_state_dict(average)
        self._waiting = {}
        if self.one_step_late:
            for item in state.get('waiting', []):
                values = torch.tensor(item['values'], dtype=torch.float64)
                self._waiting[tuple(item['stages'])] = HostCopy(values)


class CKAMaskRatio(SimilarityMaskRatio):
    """``pi = 1 - CKA_minibatch`` (Eq. 5-7), the paper's choice.

    The estimator needs at least four samples. With ``samples='images'`` (the paper) these are the images of the
    mini-batch; the three HSIC values are averaged over ranks before the division, as Eq. 7 does over mini-batches.
    Detectors train with two images on a GPU, where Eq. 6 divides by zero: the authors' code then fell back to a
    constant 0.5. ``samples='positions'`` takes every position of every image as a sample of C numbers instead, with the
    same formula. ``gather`` brings the images of all ranks together first, so that eight GPUs with two images each
    have sixteen samples.

    A constant feature has similarity 0. A batch with too few images keeps the ratio of the one before.

    Args:
        samples: 'images' or 'positions'.
        gather: With 'images': gather the features of all ranks. The number of images may differ from rank to
            rank, the size of the features may not. Their shapes are exchanged first, for which the host waits in
            every mini-batch, also with ``one_step_late``.
        min_ratio: Lower clamp, for all stages or by stage.
        max_ratio: Upper clamp, for all stages or by stage.
        window: k of Eq. 7: HSIC is averaged over the last k mini-batches before the division, at least 1.
        momentum: m in [0, 1) of an exponential moving average of HSIC instead; 0 is off. See
            :class:`SimilarityMaskRatio` for both.
        one_step_late: Whether the ratio is that of the mini-batch before, so that CUDA need not wait, except with
            ``gather``.

    Raises:
        ValueError: If an argument is out of its range; at the first mini-batch if it holds fewer than four images
            (on every rank; over all ranks with ``gather``) and there is no ratio to keep; with ``gather`` if the size
            of the features differs between ranks.
    """

    SAMPLES = ('images', 'positions')

    def __init__(
        self,
        samples: str = 'images',
        gather: bool = False,
        min_ratio: PerStage = 0.1,
        max_ratio: PerStage = 0.95,
        window: int = 1,
        momentum: float = 0.0,
        one_step_late: bool = False,
    ) -> None:
        super().__init__(window, momentum, min_ratio, max_ratio, one_step_late)
        if samples not in self.SAMPLES:
            raise ValueError(f'samples must be one of {self.SAMPLES}, but is {samples!r}.')
        if gather and samples == 'positions':
            raise ValueError("gather=True needs samples='images'; positions need no gathering.")
        self.samples = samples
        self.gather = gather

    def terms(self, name: str, student: Tensor, teacher: Tensor) -> Tensor:
        """The three HSIC values."""
        if self.samples == 'positions':
            if student.shape[-2:] != teacher.shape[-2:]:
                student = torch.nn.functional.interpolate(
                    student.float(), teacher.shape[-2:], mode='bilinear', align_corners=False
                )
            student, teacher = positions_as_samples(student), positions_as_samples(teacher)
        elif self.gather:
            student, teacher = _gather_images(name, student), _gather_images(name, teacher)
        if student.shape[0] < MIN_SAMPLES:
            return torch.zeros(4, dtype=torch.float64, device=student.device)
        one = torch.ones(1, dtype=torch.float64, device=student.device)
        return torch.cat([hsic_sums(student, teacher), one])

    def similarity(self, mean: Tensor) -> Tensor:
        """CKA of the averaged HSIC values, in [-1, 1]."""
        # By Cauchy and Schwarz the average is in [-1, 1] as each mini-batch is. What exceeds it is rounding, for
        # features of which nearly all samples are equal and vanish when centred.
        return cka_from_sums(mean).clamp(-1.0, 1.0)

    def too_few(self, name: str, student: Tensor, teacher: Tensor) -> str:
        """See :meth:`SimilarityMaskRatio.too_few`."""
        count = teacher.shape[0]
        if self.samples == 'positions':
            count = positions_as_samples(teacher).shape[0]
        return (
            f'CKA needs at least {MIN_SAMPLES} samples, but stage {name!r} has {count} '
            f"{self.samples} in the mini-batch; raise batch_size, or set samples='positions' or "
            'gather=True (several GPUs) in CKAMaskRatioHook.'
        )


class CosineMaskRatio(SimilarityMaskRatio):
    """``pi = 1 - cosine similarity`` (Table 6), mean over images, channels and ranks.

    Student and teacher need features of the same shape.

    Args:
        min_ratio: Lower clamp, for all stages or by stage.
        max_ratio: Upper clamp, for all stages or by stage.
        window: Mean over the last ``window`` mini-batches, at least 1.
        momentum: m in [0, 1) of an exponential moving average instead; 0 is off.
        one_step_late: Whether the ratio is that of the mini-batch before, so that CUDA need not wait.

    Raises:
        ValueError: If an argument is out of its range; at a mini-batch if the two shapes differ.
    """

    def __init__(
        self,
        min_ratio: PerStage = 0.1,
        max_ratio: PerStage = 0.95,
        window: int = 1,
        momentum: float = 0.0,
        one_step_late: bool = False,
    ) -> None:
        super().__init__(window, momentum, min_ratio, max_ratio, one_step_late)

    def terms(self, name: str, student: Tensor, teacher: Tensor) -> Tensor:
        """The cosine."""
        cosine = mean_cosine_similarity(student, teacher)
        return torch.stack([cosine, torch.ones_like(cosine)])

    def similarity(self, mean: Tensor) -> Tensor:
        """The averaged cosine, in [-1, 1]."""
        return mean[0]


def _gather_images(name: str, feature: Tensor) -> Tensor:
    if not (dist.is_available() and dist.is_initialized()):
        return feature
    world = dist.get_world_size()
    shape = torch.tensor(feature.shape, device=feature.device)
    shapes = [torch.empty_like(shape) for _ in range(world)]
    dist.all_gather(shapes, shape)
    sizes = [tuple(s.tolist()) for s in shapes]
    if len({size[1:] for size in sizes}) > 1:  # known to all ranks: all of them raise
        raise ValueError(
            f'gather=True needs features of one size on all ranks, but stage {name!r} has '
            f"{', '.join(map(str, sorted(set(sizes))))}; set samples='positions' and gather=False in CKAMaskRatioHook."
        )
    most = max(size[0] for size in sizes)
    padded = feature.new_zeros(most, *feature.shape[1:])
    padded[: feature.shape[0]] = feature
    parts = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(parts, padded)
    return torch.cat([part[: size[0]] for part, size in zip(parts, sizes, strict=True)])
