"""SP: which images of a batch activate a network alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor

from ...errors import UsageError
from ..loss_parts.distill_loss import WHOLE, DistillLoss, at_least_float32
from ..loss_parts.embedding import check_images


@MODELS.register_module()
class SPLoss(DistillLoss):
    """``|G_S - G_T|_F^2 / N^2``, where G are the products of flattened features, with rows of length 1.

    Student and teacher may have different channels and sizes: what is compared is ``[N, N]``.

    Args:
        index: Place of the feature in the recorded tuples, or several, whose losses are summed; negative ones count
            from the end.
        loss_weight: Factor of the loss; 3000 in public codes, beside a cross entropy of 1.

    Raises:
        ValueError: If ``loss_weight`` is out of its range or no index is given.
        UsageError: (a ValueError) If the batch has one image, or a feature is not there.

    Source: Tung and Mori, "Similarity-Preserving Knowledge Distillation", the loss of section 3. RepDistiller and
    mdistiller agree, on the last stage; torchdistill gives rows the L1 norm 1, which is another loss. mmrazor has none.
    """

    def __init__(self, index: int | Sequence[int] = -1, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.indices = (index,) if isinstance(index, int) else tuple(index)
        if not self.indices:
            raise ValueError('index of SPLoss must name a feature, but is empty; use -1.')

    def parts(
        self, student_feats: Tensor | Sequence[Tensor], teacher_feats: Tensor | Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """The loss as its only part.

        Args:
            student_feats: ``[N, ...]`` each, as recorded.
            teacher_feats: ``[N, ...]`` each; no gradient flows into them.
        """
        total = 0.0
        for index in self.indices:
            student = _feature(student_feats, index, 'student')
            teacher = _feature(teacher_feats, index, 'teacher').detach()
            check_images(len(student), 2, 'SPLoss')
            with torch.autocast(student.device.type, enabled=False):
                own, given = _similarity(student), _similarity(teacher)
                total = total + (own - given).square().mean()
        return {WHOLE: self.loss_weight * total}


def _similarity(feature: Tensor) -> Tensor:
    flat = at_least_float32(feature).flatten(1)
    return F.normalize(flat @ flat.T, dim=1)


def _feature(record: Tensor | Sequence[Tensor], index: int, side: str) -> Tensor:
    feats = (record,) if isinstance(record, Tensor) else record
    if not -len(feats) <= index < len(feats):
        raise UsageError(
            f'SPLoss has index {index}, but the record of the {side} gives {len(feats)} features; the index must be '
            f'in 0..{len(feats) - 1}.'
        )
    return feats[index]
