"""KD: the teacher's softened class probabilities."""

from __future__ import annotations

from mmrazor.models.losses import KLDivergence
from mmrazor.registry import MODELS
from torch import Tensor

from ..loss_parts.distill_loss import WHOLE, DistillLoss


@MODELS.register_module()
class KDLoss(DistillLoss):
    """``tau^2 * KL(softmax(teacher / tau) || softmax(student / tau))``: mmrazor's ``KLDivergence`` in our vocabulary.

    Args:
        tau: Temperature, > 0.
        reduction: ``'batchmean'`` (sum over classes, mean over images), ``'sum'``, or ``'mean'`` over images and
            classes, which is smaller by the number of classes.
        loss_weight: Factor of the loss; alpha in Eq. 3 of DPK.

    Raises:
        ValueError: If ``tau``, ``reduction`` or ``loss_weight`` is out of its range.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network"; L_logits in Eq. 3 of DPK.
    """

    compares_classes = True

    def __init__(
        self, tau: float = 1.0, reduction: str = 'batchmean', loss_weight: float = 1.0
    ) -> None:
        super().__init__(loss_weight)
        if not tau > 0:
            raise ValueError(f'tau of KDLoss must be > 0, but is {tau}; use 1.0 to 4.0.')
        if reduction not in ('batchmean', 'sum', 'mean'):
            raise ValueError(
                f"reduction of KDLoss must be 'batchmean', 'sum' or 'mean', but is {reduction!r}."
            )
        self.tau = tau
        self.divergence = KLDivergence(tau, reduction, loss_weight)

    def parts(self, student_logits: Tensor, teacher_logits: Tensor) -> dict[str, Tensor]:
        """The loss as its only part.

        Args:
            student_logits: ``[N, classes]``, before softmax.
            teacher_logits: The same shape; no gradient flows into them.
        """
        return {WHOLE: self.divergence(student_logits, teacher_logits)}
