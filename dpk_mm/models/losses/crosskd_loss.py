"""CrossKD: what the teacher's head makes of features of the student's head, against the teacher's predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...errors import UsageError
from ..loss_parts.distill_loss import DistillLoss, at_least_float32
from ..loss_parts.shared_heads import (
    Branches,
    first_half,
    head_of,
    kind_of,
    second_half,
    standardise_like,
    targets_of,
)

CROSSKD_WEIGHTS: dict[str, dict[str, float]] = {
    # the authors' configs, by the kind of head
    'RetinaHead': dict(cls=1.0, box=1.0, distribution=0.0),
    'GFLHead': dict(cls=1.0, box=2.0, distribution=3.0),
}
"""Published weights of the terms."""


@MODELS.register_module()
class CrossKDLoss(DistillLoss):
    """CrossKD, for RetinaNet and GFL.

    In each of the two branches of its head, the student's feature after ``split`` convolutions is given the mean and
    the deviation that the teacher's has there in every channel, and goes through the rest of the teacher's head. With p
    the scores and b the boxes that come out, q and c the teacher's own (no gradient), a over anchors::

        cls          = sum over a that count, classes of |sigmoid(q) - sigmoid(p)|^beta BCE(p, sigmoid(q)) / positives
        box          = sum over a of w_a (1 - GIoU(b_a, c_a)) / positives
        distribution = sum over a, sides of w_a KL(softmax(c) || softmax(b)) / (4 sum over a of w_a)

    w_a is the highest of the teacher's class probabilities, and 0 for anchors that the student's head leaves out of its
    own loss. *distribution* is that of GFL's sides, where *box* is divided by the sum of w, too; RetinaNet has none.
    The loss itself has no parameters.

    The distiller gives it both heads, and the records are the outputs of the necks, ``records=dict(feats='neck')``.
    The first half of the student's head and the teacher's head are run a second time for it.

    Args:
        split: Convolutions of the student's head, of as many channels as those of the teacher; 3 of 4 is published.
        beta: Exponent in *cls*, >= 0. Below 1 its slope at equal scores, which is infinite, is taken as 0.
        weights: Factors of the terms, ``dict(cls=..., box=..., distribution=...)``; by default those published for
            the kind of head, see ``CROSSKD_WEIGHTS``.
        loss_weight: Factor of the whole loss.

    Raises:
        UsageError: (a ValueError) If the heads are others, or do not fit each other.
        ValueError: If an argument is out of its range.

    Source: Wang et al. 2024, "CrossKD: Cross-Head Knowledge Distillation for Object Detection"; standardisation, terms
    and weights of the authors' code. Other than there, the number of positive anchors is that of one process.
    """

    def __init__(
        self,
        split: int = 3,
        beta: float = 1.0,
        weights: Mapping[str, float] | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(loss_weight)
        if isinstance(split, bool) or not isinstance(split, int) or split < 0:
            raise ValueError(
                f'split of CrossKDLoss must be a whole number >= 0, but is {split!r}; use 3.'
            )
        if not 0 <= beta < float('inf'):
            raise ValueError(f'beta of CrossKDLoss must be a finite number >= 0, but is {beta}.')
        known = CROSSKD_WEIGHTS['GFLHead']
        if weights is not None and (
            set(weights) != set(known) or not all(0 <= w < float('inf') for w in weights.values())
        ):
            raise ValueError(
                f'weights of CrossKDLoss must be finite numbers >= 0 of {", ".join(known)}, but is {dict(weights)!r}.'
            )
        self.split = split
        self.beta = beta
        self.weights = None if weights is None else dict(weights)
        # in a dict, so that the heads are no modules of the loss
        self._heads: dict[str, Any] = {}

    def prepare_from_student(self, model: nn.Module) -> None:
        """Keeps the student's head.

        Raises:
            UsageError: (a ValueError) If it is no head of two stacks of convolutions.
        """
        self._heads['student'] = head_of(model, 'CrossKDLoss')
        self._check_heads()

    def prepare_from_teacher(self, model: nn.Module) -> None:
        """Keeps the teacher's head.

        Raises:
            UsageError: (a ValueError) If it is no head of two stacks of convolutions, or does not fit the student's.
        """
        self._heads['teacher'] = head_of(model, 'CrossKDLoss')
        self._check_heads()

    def _check_heads(self) -> None:
        if len(self._heads) < 2:
            return
        student, teacher = self._heads['student'], self._heads['teacher']
        for what in ('kind', 'feat_channels', 'num_base_priors', 'cls_out_channels', 'reg_max'):
            own, given = (
                # only GFL has a reg_max
                kind_of(head) if what == 'kind' else getattr(head, what, None)
                for head in (student, teacher)
            )
            if own != given:
                raise UsageError(
                    f"CrossKDLoss gives the student's features to the teacher's head, whose {what} must be that of "
                    f"the student's, but the student has {own} and the teacher {given}; choose another teacher, or "
                    'another loss.'
                )
        if self.split > min(student.stacked_convs, teacher.stacked_convs):
            raise UsageError(
                f'split of CrossKDLoss is {self.split}, but the heads have {student.stacked_convs} (student) and '
                f'{teacher.stacked_convs} (teacher) convolutions.'
            )

    def parts(
        self,
        student_feats: Sequence[Tensor],
        teacher_feats: Sequence[Tensor],
        data_samples: Sequence[Any],
    ) -> dict[str, Tensor]:
        """The terms.

        Args:
            student_feats: ``[N, C_s, H, W]`` each, all outputs of the student's neck.
            teacher_feats: ``[N, C_t, H, W]`` each, of the same sizes.
            data_samples: N samples as mmdet's heads take them: ``gt_instances`` with boxes and labels, and metainfo.

        Returns:
            float32 scalars ``cls``, ``box`` and, of GFL, ``distribution``.

        Raises:
            UsageError: (a ValueError) If the heads are not known, or the features of another size.
        """
        if len(self._heads) < 2:
            raise UsageError(
                'CrossKDLoss has no heads; use it in a DPKDistiller, or call prepare_from_student() and '
                'prepare_from_teacher().'
            )
        sizes = [tuple(feature.shape[2:]) for feature in student_feats]
        if sizes != [tuple(feature.shape[2:]) for feature in teacher_feats]:
            raise UsageError(
                f'CrossKDLoss needs features of the same sizes, but the student has {sizes} and the teacher '
                f'{[tuple(feature.shape[2:]) for feature in teacher_feats]}; record both necks.'
            )
        device = student_feats[0].device
        with torch.autocast(device.type, enabled=False):
            anchors, counts, positives = targets_of(
                self._heads['student'], sizes, data_samples, device
            )
            levels = [
                self._level(place, student, teacher.detach(), anchors[place], counts[place])
                for place, (student, teacher) in enumerate(
                    zip(student_feats, teacher_feats, strict=True)
                )
            ]
        sums = {
            name: torch.stack([level[name] for level in levels]).sum()
            for name in ('cls', 'box', 'distribution', 'weight')
        }
        weights = self.weights or CROSSKD_WEIGHTS[str(kind_of(self._heads['student']))]
        found = dict(cls=sums['cls'] / positives, box=sums['box'] / positives)
        if self._is_gfl:
            total = sums['weight'].clamp(min=torch.finfo(torch.float32).eps)
            found.update(box=sums['box'] / total, distribution=sums['distribution'] / (4 * total))
        return {name: self.loss_weight * weights[name] * value for name, value in found.items()}

    @property
    def _is_gfl(self) -> bool:
        return kind_of(self._heads['student']) == 'GFLHead'

    def _level(
        self, place: int, student: Tensor, teacher: Tensor, anchors: Tensor, counts: Tensor
    ) -> dict[str, Tensor]:
        """Sums over the anchors of a level, and the sum of their weights."""
        heads = self._heads
        student, teacher = at_least_float32(student), at_least_float32(teacher)
        own = first_half(heads['student'], student, self.split)
        with torch.no_grad():
            given = first_half(heads['teacher'], teacher, self.split)
            target = second_half(heads['teacher'], given, self.split, place)
        crossed = Branches(
            *(standardise_like(x, other) for x, other in zip(own, given, strict=True))
        )
        predicted = second_half(heads['teacher'], crossed, self.split, place)

        classes = heads['student'].cls_out_channels
        scores, goal = (_flat(side.scores, classes) for side in (predicted, target))
        counts = counts.flatten()
        probabilities = goal.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(scores, probabilities, reduction='none')
        gap = (probabilities - scores.sigmoid()).abs()
        # below 1 the power has an infinite slope at 0, which times the 0 of the absolute value is NaN
        equal = gap == 0
        focus = gap.masked_fill(equal, 1.0).pow(self.beta).masked_fill(equal, 0.0**self.beta)
        weight = probabilities.amax(dim=1) * (counts > 0)

        boxes, goals = (_flat(side.boxes, -1, anchors) for side in (predicted, target))
        distribution = scores.new_zeros(())
        if self._is_gfl:
            bins = heads['student'].reg_max + 1
            distribution = F.kl_div(
                boxes.view(-1, 4, bins).log_softmax(-1),
                goals.view(-1, 4, bins).softmax(-1),
                reduction='none',
            ).sum(dim=(1, 2))
            distribution = (distribution * weight).sum()
        b, c = (self._decode(side, anchors, place) for side in (boxes, goals))
        return dict(
            cls=(entropy * focus * counts[:, None]).sum(),
            box=((1 - generalised_iou(b, c)) * weight).sum(),
            distribution=distribution,
            weight=weight.sum(),
        )

    def _decode(self, coded: Tensor, anchors: Tensor, place: int) -> Tensor:
        """Boxes in pixels, of GFL in strides; anchors are ``[N, A, 4]``."""
        head = self._heads['student']
        anchors = anchors.reshape(-1, anchors.shape[-1])
        if self._is_gfl:
            stride = head.prior_generator.strides[place][0]
            centres = head.anchor_center(anchors) / stride
            return head.bbox_coder.decode(centres, head.integral(coded))
        return head.bbox_coder.decode(anchors, coded)


def generalised_iou(first: Tensor, second: Tensor) -> Tensor:
    """GIoU of boxes pair by pair, in [-1, 1]; ``[M, 4]`` corners each.

    Source: Rezatofighi et al. 2019, "Generalized Intersection over Union", Algorithm 1.
    """
    low, high = torch.max(first[:, :2], second[:, :2]), torch.min(first[:, 2:], second[:, 2:])
    common = (high - low).clamp(min=0).prod(dim=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(dim=1) for boxes in (first, second)]
    union = (sum(areas) - common).clamp(min=1e-6)
    low, high = torch.min(first[:, :2], second[:, :2]), torch.max(first[:, 2:], second[:, 2:])
    hull = (high - low).clamp(min=0).prod(dim=1).clamp(min=1e-6)
    return common / union - (hull - union) / hull


def _flat(maps: Tensor, width: int, anchors: Tensor | None = None) -> Tensor:
    """``[N, A width, H, W]`` as ``[N H W A, width]``; the width is what the anchors leave where it is -1."""
    values = maps.permute(0, 2, 3, 1)
    if anchors is None:
        return values.reshape(-1, width)
    return values.reshape(anchors.shape[0] * anchors.shape[1], -1)
