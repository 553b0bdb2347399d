"""PKT: how probably an image is the neighbour of another one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmrazor.registry import MODELS
from torch import Tensor

from ..loss_parts.distill_loss import WHOLE, DistillLoss
from ..loss_parts.embedding import check_images, embedding_of

_EPS = 1e-7


@MODELS.register_module()
class PKTLoss(DistillLoss):
    """``mean over i, j of p_T log((p_T + eps) / (p_S + eps))``, where p is the similarity as a probability.

    ``p(i | j)`` is ``(cos + 1) / 2`` of two images' embeddings over its sum along a row, the image itself included; eps
    is 1e-7. The two embeddings may have different widths.

    Args:
        loss_weight: Factor of the loss; 30000 in public codes, beside a cross entropy of 1.

    Raises:
        ValueError: If ``loss_weight`` is out of its range.
        UsageError: (a ValueError) If the batch has one image, or a record is no embedding.

    Source: Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", the divergence of
    the conditional probabilities with the cosine kernel. RepDistiller, mdistiller and torchdistill agree; they average
    over all pairs, where the paper sums, and set a NaN to 0, which stays NaN here. mmrazor has none.
    """

    def parts(
        self,
        student_embedding: Tensor | Sequence[Tensor],
        teacher_embedding: Tensor | Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """The loss as its only part.

        Args:
            student_embedding: ``[N, D]``, what the classifier reads; a map or a tuple, see
                :func:`~dpk_mm.models.loss_parts.embedding.embedding_of`.
            teacher_embedding: Likewise, of any width; no gradient flows into it.
        """
        student = embedding_of(student_embedding, 'PKTLoss', 'student')
        teacher = embedding_of(teacher_embedding, 'PKTLoss', 'teacher').detach()
        check_images(len(student), 2, 'PKTLoss')
        with torch.autocast(student.device.type, enabled=False):
            own, given = _neighbours(student), _neighbours(teacher)
            loss = (given * ((given + _EPS) / (own + _EPS)).log()).mean()
            return {WHOLE: self.loss_weight * loss}


def _neighbours(embedding: Tensor) -> Tensor:
    """``[N, N]``, rows of sum 1."""
    unit = embedding / (embedding.norm(dim=1, keepdim=True) + _EPS)
    similarity = (unit @ unit.T + 1) / 2
    return similarity / similarity.sum(dim=1, keepdim=True)
