"""Hard distillation: the teacher's decision as a label."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor

from ..loss_parts.distill_loss import WHOLE, DistillLoss, at_least_float32


@MODELS.register_module()
class HardDistillLoss(DistillLoss):
    """Cross entropy of the student's logits with the class of the teacher's largest one, mean over images.

    A student with a distillation token (DeiT) records the head of that token:
    ``records=dict(logits=dict(student='head.layers.head_dist', teacher='head.fc'))``.

    Args:
        loss_weight: Factor of the loss; 0.5 in the paper, beside 0.5 for the cross entropy with the labels, which is
            ``loss_weight`` of the student's head.

    Raises:
        ValueError: If ``loss_weight`` is out of its range.

    Source: Touvron et al., "Training data-efficient image transformers & distillation through attention", Eq. 3.
    mmrazor has ``CrossEntropyLoss`` with the teacher's argmax, which makes a class of a NaN.
    """

    compares_classes = True

    def parts(self, student_logits: Tensor, teacher_logits: Tensor) -> dict[str, Tensor]:
        """The loss as its only part.

        Args:
            student_logits: ``[N, classes]``, before softmax.
            teacher_logits: The same shape; no gradient flows into them.
        """
        with torch.autocast(student_logits.device.type, enabled=False):
            student = at_least_float32(student_logits)
            teacher = at_least_float32(teacher_logits.detach())
            loss = F.cross_entropy(student, teacher.argmax(dim=1))
            # argmax gives a class also where a logit is NaN or infinite; the difference is then NaN, else 0
            return {WHOLE: self.loss_weight * (loss + (teacher - teacher).sum())}
