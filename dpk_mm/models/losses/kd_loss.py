"""KD: the teacher's softened class probabilities."""

from __future__ import annotations

import torch
from mmrazor.models.losses import KLDivergence
from mmrazor.registry import MODELS
from torch import Tensor

from ..loss_parts.distill_loss import WHOLE, DistillLoss, at_least_float32
from ..loss_parts.logits import check_standardize, check_temperature, standardized


@MODELS.register_module()
class KDLoss(DistillLoss):
    """``tau^2 * KL(softmax(teacher / tau) || softmax(student / tau))``: mmrazor's ``KLDivergence`` in our vocabulary.

    Args:
        tau: Temperature, > 0.
        reduction: ``'batchmean'`` (sum over classes, mean over images), ``'sum'``, or ``'mean'`` over images and
            classes, which is smaller by the number of classes.
        loss_weight: Factor of the loss; alpha in Eq. 3 of DPK.
        standardize: Whether the logits of each image are standardised first, ``'code'`` (or True) or ``'paper'``: see
            :func:`~dpk_mm.models.loss_parts.logits.standardized`. Its authors use ``tau`` 2 and ``loss_weight`` 9 on
            CIFAR-100, with a weight of 0.1 for the cross entropy.

    Raises:
        ValueError: If ``tau``, ``reduction``, ``standardize`` or ``loss_weight`` is out of its range.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network"; L_logits in Eq. 3 of DPK. Published weights
    (cross entropy : KD): CIFAR-100 0.1 : 0.9 with tau 4 (RepDistiller, mdistiller), ImageNet 0.5 : 0.5 with tau 1
    (mdistiller); DPK has 1 : 0.8. torchdistill leaves out ``tau^2`` where its cross entropy has the weight 0.
    """

    compares_classes = True

    def __init__(
        self,
        tau: float = 1.0,
        reduction: str = 'batchmean',
        loss_weight: float = 1.0,
        standardize: bool | str = False,
    ) -> None:
        super().__init__(loss_weight)
        check_temperature(tau, 'KDLoss')
        if reduction not in ('batchmean', 'sum', 'mean'):
            raise ValueError(
                f"reduction of KDLoss must be 'batchmean', 'sum' or 'mean', but is {reduction!r}."
            )
        check_standardize(standardize, 'KDLoss')
        self.tau = tau
        self.standardize = standardize
        self.divergence = KLDivergence(tau, reduction, loss_weight)

    def parts(self, student_logits: Tensor, teacher_logits: Tensor) -> dict[str, Tensor]:
        """The loss as its only part.

        Args:
            student_logits: ``[N, classes]``, before softmax.
            teacher_logits: The same shape; no gradient flows into them.
        """
        with torch.autocast(student_logits.device.type, enabled=False):
            sides = (
                standardized(at_least_float32(logits), self.standardize)
                for logits in (student_logits, teacher_logits)
            )
            return {WHOLE: self.divergence(*sides)}
