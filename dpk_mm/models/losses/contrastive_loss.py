"""CRD: each image's feature against the other network's features of that image and of many others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, all_reduce, get_rank, get_world_size
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...errors import UsageError
from ...modules.hybrid_transform import check_choice
from ..loss_parts.distill_loss import WHOLE, DistillLoss, at_least_float32
from ..loss_parts.feature_stage import SIDES, parse_stages, pick_any
from ..loss_parts.logits import labels_of
from ..loss_parts.regressor import apply_layers

LEAST_TEMPERATURE = 0.02
"""Where the largest score times the images of ImageNet is still far from the end of float32."""


@MODELS.register_module()
class ContrastiveLoss(DistillLoss):
    """CRD: noise-contrastive estimation of which of the teacher's features belongs to a student's one, and back.

    Both pooled features go through a linear layer and are divided by their L2 norm. Two memories hold these embeddings
    of all images of the training set; an image is compared with the other network's memory of itself and of
    ``negatives`` others, ``exp(v . m / temperature) / Z``, where Z is set in the first step. Both layers are trained
    with the student.

    The memories are buffers: a checkpoint holds them, so that a resumed run goes on as if it had not stopped, the draw
    of negatives included. They change in the backward pass, by the embeddings of all ranks, and so are the same on all
    of them; a forward pass alone changes nothing.

    mmrazor's ``CRDLoss`` returns the same sum whatever its ``loss_weight`` is, and embeds nothing itself; its name is
    taken in the registry.

    Args:
        num_images: Images of the training set, whose places (``sample_idx``) are 0 to ``num_images - 1``.
        student_channels: Channels of the student's feature.
        teacher_channels: Channels of the teacher's feature.
        index: Place of what is compared in both recorded tuples, or a dict with ``student`` and ``teacher``; ``[N,
            C]``, or ``[N, C, H, W]``, whose mean it takes. Published: what the classifier reads, the last.
        width: Length of an embedding.
        negatives: How many other images an image is compared with.
        temperature: At least 0.02: ``exp(1 / temperature)`` soon leaves float32, and so does Z, which checkpoints hold.
        momentum: Share of an image's memory that stays, in [0, 1).
        draw: ``'other_classes'``: negatives are of other classes, as published (an image counts as one of another class
            until it was seen once); ``'any'``: of any, such as for labels of Mixup.
        loss_weight: Factor of the loss. Published: 0.8.

    Raises:
        UsageError: (a ValueError) At the forward pass, if a feature does not fit, a sample has no ``sample_idx`` in the
            range or no label, or two images have one ``sample_idx``, as those of a ``ConcatDataset`` have.
        ValueError: If a number is out of its range.

    Source: Tian et al., "Contrastive Representation Distillation", L_critic with the memory and Z of the authors' code.
    """

    def __init__(
        self,
        num_images: int,
        student_channels: int,
        teacher_channels: int,
        index: int | Mapping[str, int] = -1,
        width: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        draw: str = 'other_classes',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(loss_weight)
        places = dict(index) if isinstance(index, Mapping) else dict.fromkeys(SIDES, index)
        entry = {f'{side}_index': place for side, place in places.items()}
        (self.stage,) = parse_stages([entry], 'ContrastiveLoss')
        check_choice('draw of ContrastiveLoss', draw, ('other_classes', 'any'))
        numbers = dict(
            num_images=num_images,
            student_channels=student_channels,
            teacher_channels=teacher_channels,
            width=width,
            negatives=negatives,
        )
        for name, value in numbers.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(
                    f'{name} of ContrastiveLoss must be an integer > 0, but is {value!r}.'
                )
        if num_images < 2:
            raise ValueError('num_images of ContrastiveLoss must be at least 2, but is 1.')
        if not LEAST_TEMPERATURE <= temperature < math.inf or not 0 <= momentum < 1:
            raise ValueError(
                f'ContrastiveLoss needs temperature >= {LEAST_TEMPERATURE} and momentum in [0, 1), but they are '
                f'{temperature} and {momentum}; use 0.07 and 0.5.'
            )
        self.num_images, self.negatives, self.draw = num_images, negatives, draw
        self.temperature, self.momentum = temperature, momentum
        self.embed = nn.ModuleDict(
            dict(
                student=nn.Linear(student_channels, width),
                teacher=nn.Linear(teacher_channels, width),
            )
        )
        bound = 1 / math.sqrt(width / 3)
        for side in SIDES:
            start = torch.empty(num_images, width).uniform_(-bound, bound)
            self.register_buffer(f'{side}_memory', start)
        self.register_buffer(
            'norms', torch.full((2,), -1.0)
        )  # Z of student and teacher; -1: not set
        self.register_buffer('labels', torch.full((num_images,), -1))  # -1: not seen
        self.register_buffer('steps', torch.zeros((), dtype=torch.long))

    def parts(
        self,
        student_feats: Sequence[Tensor],
        teacher_feats: Sequence[Tensor],
        data_samples: Sequence[Any],
    ) -> dict[str, Tensor]:
        """The loss as its only part.

        Args:
            student_feats: ``[N, C_s, H, W]`` or ``[N, C_s]`` each, as recorded.
            teacher_feats: ``[N, C_t, H, W]`` or ``[N, C_t]`` each; no gradient flows into them.
            data_samples: N samples with ``sample_idx`` and ``gt_label``.
        """
        feats = dict(student=student_feats, teacher=teacher_feats)
        vectors = {side: self._embed(side, feats[side]) for side in SIDES}
        device = vectors['student'].device
        places = self._places(data_samples, len(vectors['student'])).to(device)
        labels = self._labels(data_samples, places)
        drawn = torch.cat([places[:, None], self._draw(places, labels)], dim=1)
        with torch.autocast(device.type, enabled=False):
            scores = [
                self._scores(vectors['student'], self.teacher_memory, drawn),
                self._scores(vectors['teacher'], self.student_memory, drawn),
            ]
            norms = self._norms(scores)
            value = sum(self._estimate(x / z) for x, z in zip(scores, norms, strict=True))
        self._update_on_backward(vectors, places, labels, norms)
        return {WHOLE: self.loss_weight * value}

    def _embed(self, side: str, feats: Sequence[Tensor]) -> Tensor:
        """``[N, width]``, of length 1."""
        feature = pick_any(self.stage, side, feats, 'ContrastiveLoss')
        pooled = feature.mean(dim=(2, 3)) if feature.ndim == 4 else feature
        layer = self.embed[side]
        if pooled.ndim != 2 or pooled.shape[1] != layer.in_features:
            raise UsageError(
                f"ContrastiveLoss expects the {side}'s feature to be [N, {layer.in_features}], or such maps, but found "
                f'{list(feature.shape)}; set index or {side}_channels.'
            )
        with torch.autocast(pooled.device.type, enabled=False):
            embedded = apply_layers(layer, pooled)
            # not F.normalize: a NaN and an infinity have to stay
            return embedded / embedded.norm(dim=1, keepdim=True)

    def _places(self, data_samples: Sequence[Any], count: int) -> Tensor:
        places = [getattr(sample, 'sample_idx', None) for sample in data_samples]
        if len(places) != count:
            raise UsageError(
                f'ContrastiveLoss needs one data sample for each image, but found {len(places)} for {count}.'
            )
        for place in places:
            if place is None or not 0 <= int(place) < self.num_images:
                raise UsageError(
                    f'ContrastiveLoss needs sample_idx in 0 to {self.num_images - 1} in every data sample, but found '
                    f'{place}; set num_images to the images of the training set, and keep sample_idx in meta_keys of '
                    'PackInputs.'
                )
        return torch.tensor([int(place) for place in places])

    def _labels(self, data_samples: Sequence[Any], places: Tensor) -> Tensor:
        """``[N]`` classes, -1 where none counts."""
        if self.draw == 'any':
            return torch.full_like(places, -1)
        labels = labels_of(data_samples, places, "ContrastiveLoss with draw='other_classes'")
        known = self.labels[places]
        if bool(((known >= 0) & (known != labels)).any()):
            raise UsageError(
                'ContrastiveLoss found two classes under one sample_idx: the images of several data sets share it; use '
                'one data set, without ConcatDataset.'
            )
        return labels

    def _draw(self, places: Tensor, labels: Tensor) -> Tensor:
        """``[N, negatives]`` places of other images; the same for the same step and rank."""
        generator = torch.Generator(places.device)
        generator.manual_seed(int(self.steps) * get_world_size() + get_rank())
        shape = (len(places), self.negatives)
        if self.draw == 'any':
            return torch.randint(self.num_images, shape, generator=generator, device=places.device)
        known = self.labels.clone()
        known[places] = labels
        # images by class: those of the own class are one run, which the drawn place skips
        ordered, order = known.sort(stable=True)
        start = torch.searchsorted(ordered, labels)[:, None]
        size = torch.searchsorted(ordered, labels, right=True)[:, None] - start
        others = self.num_images - size
        if not bool((others > 0).all()):
            raise UsageError(
                f"ContrastiveLoss with draw='other_classes' has seen {self.num_images} images of one class alone; set "
                "num_images to the images of the training set, or draw='any'."
            )
        share = torch.rand(shape, generator=generator, device=places.device, dtype=torch.float64)
        place = (share * others).long().clamp_max(others - 1)
        return order[torch.where(place < start, place, place + size)]

    def _scores(self, own: Tensor, memory: Tensor, drawn: Tensor) -> Tensor:
        """``[N, 1 + negatives]``: exp of the products with the other network's memory."""
        others = at_least_float32(memory)[drawn].to(own.dtype)
        return torch.einsum('nkc,nc->nk', others, own).div(self.temperature).exp()

    def _norms(self, scores: Sequence[Tensor]) -> Tensor:
        """Z of both sides, ``[2]``; of the first step's mean over all ranks where they are not set."""
        means = torch.stack([x.detach().mean() for x in scores])
        if get_world_size() > 1:
            all_reduce(means, op='mean')
        norms = self.norms.to(means)
        return torch.where(norms < 0, means * self.num_images, norms)

    def _estimate(self, share: Tensor) -> Tensor:
        """The estimation's loss of ``[N, 1 + negatives]``, the positive first."""
        noise = self.negatives / self.num_images
        positive, negative = share[:, :1], share[:, 1:]
        eps = 1e-7
        log_positive = (positive / (positive + noise + eps)).log().sum()
        log_negative = (noise / (negative + noise + eps)).log().sum()
        return -(log_positive + log_negative) / len(share)

    def _update_on_backward(
        self, vectors: Mapping[str, Tensor], places: Tensor, labels: Tensor, norms: Tensor
    ) -> None:
        """Moves the memories when the gradient of this batch is computed, once."""
        if not self.training:
            return
        # gathered here: every rank comes through the forward pass in one order, and without a gradient, too, where
        # its own pass has failed and the others wait for it
        own = [vectors['student'].detach(), vectors['teacher'].detach(), places, labels]
        student, teacher, where, classes = (torch.cat(all_gather(x.contiguous())) for x in own)
        if not vectors['student'].requires_grad:
            return
        step = int(self.steps)

        @torch.no_grad()
        def update(grad: Tensor) -> None:
            if int(self.steps) != step:  # a second gradient of the same batch
                return
            if not torch.isfinite(student).all() or not torch.isfinite(teacher).all():
                return
            keep = _last_of_each(where)
            for memory, new in ((self.student_memory, student), (self.teacher_memory, teacher)):
                mixed = self.momentum * memory[where[keep]] + (1 - self.momentum) * new[keep]
                memory[where[keep]] = F.normalize(mixed, dim=1).to(memory.dtype)
            self.labels[where[keep]] = classes[keep]
            self.norms.copy_(norms)
            self.steps += 1

        vectors['student'].register_hook(update)

    def feature_names(self) -> dict[tuple[str, int], str]:
        """The compared feature, by side and index."""
        return {(side, getattr(self.stage, side)): 'pooled' for side in SIDES}


def _last_of_each(places: Tensor) -> Tensor:
    """Where each different place stands last: an image that a sampler gave twice is written once."""
    order = torch.arange(len(places), device=places.device)
    later = (places[:, None] == places[None, :]) & (order[:, None] < order[None, :])
    return (~later.any(dim=1)).nonzero()[:, 0]
