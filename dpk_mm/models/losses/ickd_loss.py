"""ICKD-C: how the channels of a feature go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...modules.hybrid_transform import check_choice
from ..loss_parts.feature_stage import FeatureStage
from ..loss_parts.regressor import apply_layers, connector
from ..loss_parts.stage_loss import StageLoss


@MODELS.register_module()
class ICKDLoss(StageLoss):
    """ICKD-C: ``sum (G_s - G_t)^2 / (C N)``, G the rows of ``F F^T`` (C x C), each divided by its L2 norm.

    The student's feature has the teacher's channels by a 1x1 convolution without bias and batch normalisation, trained
    with it. Sizes may differ, where ``scale`` says so.

    Args:
        stages: See :class:`~dpk_mm.models.loss_parts.stage_loss.StageLoss`; with channels. Published: the last.
        mode: ``'cifar'`` (above), or ``'imagenet'``: over C N^2, so that the loss falls with the batch size. Both are
            the authors' code.
        align: Whether the student's feature goes through the convolution; without, both have the same channels.
        loss_weight: Factor of the loss. Published: 2.5 with ``'cifar'``; torchdistill has 500 with ``'imagenet'``,
            beside half of the cross entropy and KD of weight 0.5 and ``tau`` 1.

    Raises:
        UsageError: (a ValueError) If a stage is malformed, or at the forward pass a feature does not fit.
        ValueError: If ``mode`` is unknown, or channels differ that nothing aligns.

    Source: Liu et al., "Exploring Inter-Channel Correlation for Diversity-preserved Knowledge Distillation", L_CC, and
    the authors' code.
    """

    needs_channels = True

    def __init__(
        self,
        stages: Sequence[Mapping[str, Any]],
        mode: str = 'cifar',
        align: bool = True,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(stages, loss_weight)
        check_choice('mode of ICKDLoss', mode, ('cifar', 'imagenet'))
        self.mode = mode
        for stage in self.stages:
            if not align and stage.student_channels != stage.teacher_channels:
                raise ValueError(
                    f'align of ICKDLoss is False, but {stage.name} has {stage.student_channels} channels of the '
                    f'student and {stage.teacher_channels} of the teacher; set align=True.'
                )
        self.connectors = nn.ModuleDict({s.name: connector(s) for s in self.stages if align})

    def compare(self, stage: FeatureStage, student: Tensor, teacher: Tensor) -> Tensor:
        """The distance of the channels' correlations of one stage."""
        if stage.name in self.connectors:
            student = apply_layers(self.connectors[stage.name], student)
        n, channels = teacher.shape[:2]
        total = (_correlation(student) - _correlation(teacher)).square().sum()
        return total / (channels * n if self.mode == 'cifar' else channels * n**2)


def _correlation(x: Tensor) -> Tensor:
    """``[N, C, C]``, rows of length 1."""
    rows = x.flatten(2)
    return F.normalize(rows @ rows.transpose(1, 2), dim=2)
