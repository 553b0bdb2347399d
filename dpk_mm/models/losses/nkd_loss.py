"""NKD: the target class, and the others with their probabilities normalised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmrazor.registry import MODELS
from torch import Tensor

from ..loss_parts.distill_loss import DistillLoss, at_least_float32
from ..loss_parts.logits import check_temperature, labels_of, without_target


@MODELS.register_module()
class NKDLoss(DistillLoss):
    """``-T_t log S_t - gamma tau^2 sum_{i != t} N(T_i) log N(S_i)``, mean over images.

    ``T_t`` and ``S_t`` are the two probabilities of the target class at temperature 1, ``N`` those of the other
    classes among themselves at the temperature ``tau``. Both terms are cross entropies: their least value is not 0.

    Args:
        tau: Temperature of the other classes, lambda of the paper, > 0.
        gamma: Factor of the other classes' term, >= 0.
        loss_weight: Factor of the loss, alpha of the paper.

    Raises:
        ValueError: If an argument is out of its range.
        UsageError: (a ValueError) If the data samples do not give one class for each image.

    Source: Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with
    Normalized Loss and Customized Soft Labels", L_nkd. Published beside a cross entropy
    of 1: ImageNet tau 1, gamma 1.5; CIFAR-100 (R34 to R18) tau 3, gamma 3.5. One state of the authors' code masks no
    class, so that the target counts among the others; the newest one is this formula. mmrazor has none.
    """

    compares_classes = True
    target_tau = 1.0
    """Temperature of the target class, whatever ``tau`` is; stored logits have to be of it."""

    def __init__(self, tau: float = 1.0, gamma: float = 1.5, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        check_temperature(tau, 'NKDLoss')
        if not 0 <= gamma < float('inf'):
            raise ValueError(
                f'gamma of NKDLoss must be a finite number >= 0, but is {gamma}; use 1.5.'
            )
        self.tau = tau
        self.gamma = gamma

    def parts(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        data_samples: Sequence[Any] | None = None,
    ) -> dict[str, Tensor]:
        """The two terms, ``target`` and ``others``.

        Args:
            student_logits: ``[N, classes]``, before softmax.
            teacher_logits: The same shape; no gradient flows into them.
            data_samples: N samples with ``gt_label``.
        """
        labels = labels_of(data_samples, student_logits, 'NKDLoss')
        with torch.autocast(student_logits.device.type, enabled=False):
            student = at_least_float32(student_logits)
            teacher = at_least_float32(teacher_logits.detach())
            place = labels.unsqueeze(1)
            probability = teacher.softmax(dim=1).gather(1, place)
            target = -(probability * student.log_softmax(dim=1).gather(1, place)).mean()
            own, given = (without_target(x, labels) / self.tau for x in (student, teacher))
            others = -(given.softmax(dim=1) * own.log_softmax(dim=1)).sum(dim=1).mean()
            scale = self.loss_weight * self.gamma * self.tau**2
            return dict(target=self.loss_weight * target, others=scale * others)
