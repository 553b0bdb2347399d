"""RKD: distances and angles between the images of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from mmrazor.models.losses import AngleWiseRKD, DistanceWiseRKD
from mmrazor.registry import MODELS
from torch import Tensor

from ..loss_parts.distill_loss import DistillLoss
from ..loss_parts.embedding import check_images, embedding_of


@MODELS.register_module()
class RKDLoss(DistillLoss):
    """``distance * huber(d_S / mean d_S, d_T / mean d_T) + angle * huber(cos_S, cos_T)``: mmrazor's two losses.

    ``d`` are the distances of all pairs of embeddings, ``cos`` the cosines of the angles of all triplets. The two
    embeddings may have different widths.

    mmrazor's ``DistanceWiseRKD`` and ``AngleWiseRKD`` bring the features to length 1 first by default
    (``with_l2_norm``), which is another loss than that of the paper and of public codes, and let the gradient reach
    the teacher; here neither is so. Embeddings are centred over the batch, which changes no distance, but keeps its
    digits where the mean is large.

    Args:
        distance: Factor of the distances, >= 0.
        angle: Factor of the angles, >= 0; they take N^3 numbers for N images on a device.
        loss_weight: Factor of the loss.

    Raises:
        ValueError: If an argument is out of its range, or both factors are 0.
        UsageError: (a ValueError) If the batch has fewer than three images, or a record is no embedding.

    Source: Park et al., "Relational Knowledge Distillation", L_RKD-D and L_RKD-A. Published beside a cross entropy of
    1: 25 and 50 (RepDistiller, mdistiller), 1 and 2 (torchdistill). Public codes and this loss average over all N^2 and
    N^3 entries, those of an image with itself included, where the paper sums over different ones.
    """

    def __init__(
        self, distance: float = 25.0, angle: float = 50.0, loss_weight: float = 1.0
    ) -> None:
        super().__init__(loss_weight)
        for name, value in (('distance', distance), ('angle', angle)):
            if not 0 <= value < math.inf:
                raise ValueError(f'{name} of RKDLoss must be a finite number >= 0, but is {value}.')
        if not distance and not angle:
            raise ValueError(
                'distance and angle of RKDLoss are both 0, so nothing is compared; use 25 and 50.'
            )
        losses = dict(distance=DistanceWiseRKD, angle=AngleWiseRKD)
        weights = dict(distance=loss_weight * distance, angle=loss_weight * angle)
        self.relations = torch.nn.ModuleDict(
            {
                name: losses[name](weights[name], with_l2_norm=False)
                for name, factor in dict(distance=distance, angle=angle).items()
                if factor
            }
        )

    def parts(
        self,
        student_embedding: Tensor | Sequence[Tensor],
        teacher_embedding: Tensor | Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """The terms ``distance`` and ``angle``, those whose factor is not 0.

        Args:
            student_embedding: ``[N, D]``, what the classifier reads; a map or a tuple, see
                :func:`~dpk_mm.models.loss_parts.embedding.embedding_of`.
            teacher_embedding: Likewise, of any width; no gradient flows into it.
        """
        student = embedding_of(student_embedding, 'RKDLoss', 'student')
        teacher = embedding_of(teacher_embedding, 'RKDLoss', 'teacher').detach()
        check_images(len(student), 3, 'RKDLoss')
        with torch.autocast(student.device.type, enabled=False):
            own, given = (x - x.mean(dim=0, keepdim=True) for x in (student, teacher))
            return {name: relation(own, given) for name, relation in self.relations.items()}
