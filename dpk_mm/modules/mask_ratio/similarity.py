"""Ratios that the gap between student and teacher decides."""

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
    """``pi = 1 - similarity``: base of the policies that look at the features.

    Each stage gives a few numbers per mini-batch (CKA: the three HSIC values of Eq. 6; cosine: the cosine). They are
    averaged over the ranks that have them, then over mini-batches, and only then become a similarity, as Eq. 7 does.
    With v_t of the present mini-batch and k = ``window``, m = ``momentum``, that average is

    - ``sum_{i=t-k+1..t} v_i / k``: the last k mini-batches, the present one included (fewer at the start), or
    - ``sum_{i=1..t} m^(t-i) v_i / sum_{i=1..t} m^(t-i)``: an exponential moving average, without a start value.

    A mini-batch without a value (too few samples on every rank, or a feature that is not finite) leaves the average
    and the ratio as they were.

    The ratio decides how many tokens there are, so the host has to know it, and on CUDA waits for the features in the
    middle of the forward pass. ``one_step_late`` takes the features of the mini-batch before instead (the first
    mini-batch its own): their numbers came to the host meanwhile, and nothing waits.

    Args:
        window (int): k of Eq. 7, at least 1. 1 is this very mini-batch (authors' code).
        momentum (float): m in [0, 1); 0 is off.
        min_ratio (float | dict[str, float]): Lower clamp.
        max_ratio (float | dict[str, float]): Upper clamp.
        one_step_late (bool): Whether the present mini-batch counts for the next one only.

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
        # of the stages that came together
        self._waiting: dict[tuple[str, ...], HostCopy] = {}

    @property
    def remembers(self) -> bool:
        return self._averages_many or self.one_step_late

    @property
    def _averages_many(self) -> bool:
        return self.window > 1 or self.momentum > 0

    def wanted(self, features: Features) -> dict[str, float]:
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
            # One host-device synchronisation for all stages: the count of tokens has to be a number.
            terms = terms.cpu()
        wanted = {}
        for (name, pair), row in zip(features.items(), terms, strict=True):
            ranks = row[-1].item()
            if ranks == 0 and name not in self.ratios:
                # After the all-reduce, so that no rank waits for one that has raised.
                raise ValueError(self.too_few(name, *pair))
            value = row[:-1] / ranks if ranks else row[:-1] * torch.nan
            if value.isfinite().all():
                # What is still to come one step late is averaged then, and not twice.
                again = self.one_step_late and own
                mean = value if again else self._average(name).update(value)
                self.similarities[name] = self.similarity(mean).item()
                wanted[name] = 1.0 - self.similarities[name]
            else:
                # The loss itself reports features that are not finite.
                wanted[name] = self.ratios.get(name, self.of('max_ratio', name))
        return wanted

    def _average(self, stage: str) -> Average:
        if stage not in self._averages:
            self._averages[stage] = (
                ExponentialMean(self.momentum) if self.momentum else WindowMean(self.window)
            )
        return self._averages[stage]

    def terms(self, name: str, student: Tensor, teacher: Tensor) -> Tensor:
        """This rank's numbers and a one, float64; zeros if it has too few samples."""
        raise NotImplementedError

    def similarity(self, mean: Tensor) -> Tensor:
        """Averaged numbers -> scalar."""
        raise NotImplementedError

    def too_few(self, name: str, student: Tensor, teacher: Tensor) -> str:
        """The sentence for a first mini-batch that no rank has enough samples in."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
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
        samples (str): 'images' or 'positions'.
        gather (bool): With 'images': gather the features of all ranks. The number of images may differ from rank to
            rank, the size of the features may not.
        min_ratio (float | dict[str, float]): Lower clamp, for all stages or by stage.
        max_ratio (float | dict[str, float]): Upper clamp, for all stages or by stage.
        window (int): k of Eq. 7: HSIC is averaged over the last k mini-batches before the division, at least 1.
        momentum (float): m in [0, 1) of an exponential moving average of HSIC instead; 0 is off. See
            :class:`SimilarityMaskRatio` for both.
        one_step_late (bool): The ratio of the mini-batch before, for which CUDA need not wait.

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
        # The average obeys Cauchy and Schwarz as each mini-batch does. What is beyond is rounding, of features whose
        # samples are all alike but one or two: nothing is left of them after centring.
        return cka_from_sums(mean).clamp(-1.0, 1.0)

    def too_few(self, name: str, student: Tensor, teacher: Tensor) -> str:
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
        min_ratio (float | dict[str, float]): Lower clamp, for all stages or by stage.
        max_ratio (float | dict[str, float]): Upper clamp, for all stages or by stage.
        window (int): Mean over the last ``window`` mini-batches, at least 1.
        momentum (float): m in [0, 1) of an exponential moving average instead; 0 is off.
        one_step_late (bool): The ratio of the mini-batch before, for which CUDA need not wait.

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
        cosine = mean_cosine_similarity(student, teacher)
        return torch.stack([cosine, torch.ones_like(cosine)])

    def similarity(self, mean: Tensor) -> Tensor:
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
