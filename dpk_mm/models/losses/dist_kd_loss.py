"""DIST: the teacher's relations between classes and between images, by correlation."""

from __future__ import annotations

import torch
from mmrazor.models.losses.dist_loss import inter_class_relation, intra_class_relation
from mmrazor.registry import MODELS
from torch import Tensor

from ..loss_parts.distill_loss import DistillLoss, at_least_float32
from ..loss_parts.logits import check_temperature


@MODELS.register_module()
class DISTKDLoss(DistillLoss):
    """``tau^2 (beta (1 - mean of r over images) + gamma (1 - mean of r over classes))``: terms of mmrazor's DISTLoss.

    ``r`` is Pearson's correlation of student and teacher: of the probabilities of an image, or of those of a class over
    the images of the batch, both at the temperature ``tau``. mmrazor's formula is right: it adds 1e-8 to the product
    of the two norms, as the authors do, so that classes which neither network sees in a batch count as uncorrelated.

    Args:
        tau: Temperature, > 0.
        beta: Factor of the relation within an image (inter-class), >= 0.
        gamma: Factor of the relation within a class (intra-class), >= 0.
        loss_weight: Factor of the loss.

    Raises:
        ValueError: If an argument is out of its range.

    Source: Huang et al., "Knowledge Distillation from A Stronger Teacher", L_inter and L_intra. Published beside a
    cross entropy of 1: beta 2 and gamma 2, tau 1 on ImageNet and 4 on CIFAR-100 (mmrazor's ImageNet config has 1, 1
    and a ``loss_weight`` of 2). The factor ``tau^2`` is that of mmrazor's code.
    """

    compares_classes = True

    def __init__(
        self, tau: float = 1.0, beta: float = 2.0, gamma: float = 2.0, loss_weight: float = 1.0
    ) -> None:
        super().__init__(loss_weight)
        check_temperature(tau, 'DISTKDLoss')
        for name, value in (('beta', beta), ('gamma', gamma)):
            if not 0 <= value < float('inf'):
                raise ValueError(
                    f'{name} of DISTKDLoss must be a finite number >= 0, but is {value}; use 2.0.'
                )
        self.tau = tau
        self.beta = beta
        self.gamma = gamma

    def parts(self, student_logits: Tensor, teacher_logits: Tensor) -> dict[str, Tensor]:
        """The two terms, ``inter`` and ``intra``.

        Args:
            student_logits: ``[N, classes]``, before softmax.
            teacher_logits: The same shape; no gradient flows into them.
        """
        scale = self.loss_weight * self.tau**2
        with torch.autocast(student_logits.device.type, enabled=False):
            student, teacher = (
                (at_least_float32(logits) / self.tau).softmax(dim=1)
                for logits in (student_logits, teacher_logits.detach())
            )
            return dict(
                inter=scale * self.beta * inter_class_relation(student, teacher),
                intra=scale * self.gamma * intra_class_relation(student, teacher),
            )
