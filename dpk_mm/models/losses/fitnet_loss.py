"""FitNets: the teacher's hint, matched through a regressor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...modules.hybrid_transform import check_choice
from ..loss_parts.feature_stage import FeatureStage
from ..loss_parts.regressor import apply_layers, check_same_size, regressor
from ..loss_parts.stage_loss import StageLoss


@MODELS.register_module()
class FitNetLoss(StageLoss):
    """``mean (T - r(S))^2``: the teacher's middle feature is the hint, r a convolutional regressor on the student's.

    r is a convolution with bias (see ``scale`` of a stage), batch normalisation and ReLU. It is trained with the
    student. mmrazor's ``L2Loss`` normalises both sides first, which is another loss.

    Args:
        stages: See :class:`~dpk_mm.models.loss_parts.stage_loss.StageLoss`; with channels. Published: the second of
            three stages alone.
        mode: ``'code'`` (above), as the field compares it, or ``'paper'``: half the squared distance, summed over the
            cells and averaged over the images, and r without batch normalisation (Eq. 3).
        loss_weight: Factor of the loss. Published: 100 with ``'code'``.

    Raises:
        UsageError: (a ValueError) If a stage is malformed, or at the forward pass a feature does not fit.
        ValueError: If ``mode`` is unknown.

    Source: Romero et al., "FitNets: Hints for Thin Deep Nets", Eq. 3; the code of CRD's comparison, and mdistiller,
    whose weight it is. The paper trains by the hint alone first; both codes train by it and the labels at once.
    """

    needs_channels = True

    def __init__(
        self, stages: Sequence[Mapping[str, Any]], mode: str = 'code', loss_weight: float = 1.0
    ) -> None:
        super().__init__(stages, loss_weight)
        check_choice('mode of FitNetLoss', mode, ('code', 'paper'))
        self.mode = mode
        self.regressors = nn.ModuleDict(
            {s.name: regressor(s, 'FitNetLoss', norm=mode == 'code') for s in self.stages}
        )

    def compare(self, stage: FeatureStage, student: Tensor, teacher: Tensor) -> Tensor:
        """The squared error of one stage."""
        student = apply_layers(self.regressors[stage.name], student)
        check_same_size(student, teacher, stage, 'FitNetLoss')
        if self.mode == 'code':
            return F.mse_loss(student, teacher)
        return (student - teacher).square().sum() / (2 * len(student))
