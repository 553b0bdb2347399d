"""VID: the mutual information of the two features, from below."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ..loss_parts.feature_stage import FeatureStage
from ..loss_parts.regressor import apply_layers, pool_to_smaller
from ..loss_parts.stage_loss import StageLoss


@MODELS.register_module()
class VIDLoss(StageLoss):
    """VID: ``mean ((mu(S) - T)^2 / v + log v) / 2``, the likelihood of the teacher's feature given the student's.

    mu is three 1x1 convolutions without bias with ReLUs between them, v a variance for each of the teacher's channels,
    ``softplus`` of a parameter plus ``eps``. Both are trained with the student (in mdistiller the variance is in no
    optimizer). Where ``scale`` is not 1, the larger map is averaged to the size of the smaller one. The loss may be
    negative: the variance may fall below 1.

    Args:
        stages: See :class:`~dpk_mm.models.loss_parts.stage_loss.StageLoss`; with channels. Published: all stages but
            the stem.
        init_variance: What v starts from, > ``eps``.
        eps: Least variance, > 0.
        loss_weight: Factor of the loss. Published: 1.

    Raises:
        UsageError: (a ValueError) If a stage is malformed, or at the forward pass a feature does not fit.
        ValueError: If ``init_variance`` or ``eps`` is out of its range.

    Source: Ahn et al., "Variational Information Distillation for Knowledge Transfer", the Gaussian q(t | s) with a
    variance by channel; layers and weight of CRD's comparison.
    """

    needs_channels = True

    def __init__(
        self,
        stages: Sequence[Mapping[str, Any]],
        init_variance: float = 5.0,
        eps: float = 1e-5,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(stages, loss_weight)
        if not 0 < eps < init_variance < math.inf:
            raise ValueError(
                f'init_variance of VIDLoss must be > eps > 0, but is {init_variance} with eps={eps}; use 5.0 and 1e-5.'
            )
        self.eps = eps
        start = math.log(math.expm1(init_variance - eps)) if init_variance < 50 else init_variance
        self.means = nn.ModuleDict()
        self.raw_variances = nn.ParameterDict()
        for stage in self.stages:
            own, given = int(stage.student_channels or 0), int(stage.teacher_channels or 0)
            self.means[stage.name] = nn.Sequential(
                nn.Conv2d(own, given, 1, bias=False),
                nn.ReLU(),
                nn.Conv2d(given, given, 1, bias=False),
                nn.ReLU(),
                nn.Conv2d(given, given, 1, bias=False),
            )
            self.raw_variances[stage.name] = nn.Parameter(torch.full((given,), start))

    def compare(self, stage: FeatureStage, student: Tensor, teacher: Tensor) -> Tensor:
        """The negative log-likelihood of one stage, without its constant."""
        student, teacher = pool_to_smaller(student, teacher)
        mean = apply_layers(self.means[stage.name], student)
        raw = self.raw_variances[stage.name].to(mean.dtype)
        variance = (F.softplus(raw) + self.eps).view(1, -1, 1, 1)
        return 0.5 * ((mean - teacher).square() / variance + variance.log()).mean()
