"""DKD: knowledge distillation in two terms, the target class against the rest, and the rest among itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmrazor.registry import MODELS
from torch import Tensor

from ..loss_parts.distill_loss import DistillLoss, at_least_float32
from ..loss_parts.logits import (
    check_standardize,
    check_temperature,
    labels_of,
    standardized,
    without_target,
)
from ..loss_parts.warmup import Warmup


@MODELS.register_module()
class DecoupledKDLoss(DistillLoss):
    """``tau^2 (alpha KL(b_T || b_S) + beta KL(p_T || p_S))``, sum over classes and mean over images.

    ``b`` are the two probabilities of the target class and of all others together, ``p`` those of the others among
    themselves, all at the temperature ``tau``.

    mmrazor has ``DKDLoss``, which gives the same numbers, but whose ``reduction`` is ignored (``size_average`` of torch
    overrides it), which has no warm-up, and whose logarithm of a sum of probabilities is infinite where the student
    is very sure (at a distance of 104 between logits over ``tau``). This one works with logarithms throughout.

    Args:
        tau: Temperature, > 0.
        alpha: Factor of the target class's term, >= 0.
        beta: Factor of the others' term, >= 0.
        warmup: Passes over the training data in which the factor of the loss grows to 1, see
            :class:`~dpk_mm.models.loss_parts.warmup.Warmup`; 0 for none.
        standardize: As of ``KDLoss``; its authors use ``tau`` 2 and 9 times ``alpha`` and ``beta``.
        loss_weight: Factor of the loss.

    Raises:
        ValueError: If an argument is out of its range.
        UsageError: (a ValueError) In training, if there is a warm-up and no hook says which pass it is, or if the
            data samples do not give one class for each image.

    Source: Zhao et al., "Decoupled Knowledge Distillation", Eq. 7. Published (mdistiller): cross entropy 1, alpha 1;
    CIFAR-100 tau 4, beta 2, 6 or 8 by pair, warm-up 20; ImageNet tau 1, beta 0.5, warm-up 1.
    """

    compares_classes = True

    def __init__(
        self,
        tau: float = 4.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        warmup: int = 0,
        standardize: bool | str = False,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(loss_weight)
        check_temperature(tau, 'DecoupledKDLoss')
        for name, value in (('alpha', alpha), ('beta', beta)):
            if not 0 <= value < float('inf'):
                raise ValueError(
                    f'{name} of DecoupledKDLoss must be a finite number >= 0, but is {value}; use 1.0.'
                )
        check_standardize(standardize, 'DecoupledKDLoss')
        self.tau = tau
        self.alpha = alpha
        self.beta = beta
        self.standardize = standardize
        self.warmup = Warmup(warmup, 'DecoupledKDLoss')

    def parts(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        data_samples: Sequence[Any] | None = None,
    ) -> dict[str, Tensor]:
        """The two terms, ``tckd`` and ``nckd``.

        Args:
            student_logits: ``[N, classes]``, before softmax.
            teacher_logits: The same shape; no gradient flows into them.
            data_samples: N samples with ``gt_label``.
        """
        labels = labels_of(data_samples, student_logits, 'DecoupledKDLoss')
        scale = self.loss_weight * self.warmup.factor() * self.tau**2
        with torch.autocast(student_logits.device.type, enabled=False):
            student, teacher = (
                standardized(at_least_float32(logits), self.standardize) / self.tau
                for logits in (student_logits, teacher_logits.detach())
            )
            (student_two, student_rest), (teacher_two, teacher_rest) = (
                _decoupled(logits, labels) for logits in (student, teacher)
            )
            return dict(
                tckd=scale * self.alpha * _divergence(teacher_two, student_two),
                nckd=scale * self.beta * _divergence(teacher_rest, student_rest),
            )


def _decoupled(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of the probabilities: target and rest, ``[N, 2]``, and among the rest, ``[N, classes - 1]``."""
    rest = without_target(logits, labels)
    target = logits.gather(1, labels.unsqueeze(1))
    two = torch.cat([target, rest.logsumexp(dim=1, keepdim=True)], dim=1)
    return two.log_softmax(dim=1), rest.log_softmax(dim=1)


def _divergence(teacher: Tensor, student: Tensor) -> Tensor:
    return (teacher.exp() * (teacher - student)).sum(dim=1).mean()
