"""AB: which neurons of the teacher are active."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ..loss_parts.feature_stage import FeatureStage
from ..loss_parts.regressor import apply_layers, check_same_size, regressor
from ..loss_parts.stage_loss import StageLoss


@MODELS.register_module()
class ActivationBoundaryLoss(StageLoss):
    """AB: a squared hinge that puts each of the student's neurons on the teacher's side of the ReLU.

    ``(S + m)^2`` where the teacher's neuron is off (``T <= 0``) and ``S > -m``, ``(S - m)^2`` where it is on and
    ``S <= m``; summed over the cells, averaged over the images. Both features are those *before* the ReLU
    (``preact=True`` of our CIFAR backbones). A stage of other channels or another size has a convolution with batch
    normalisation on the student, without ReLU, which is trained with it; a stage that needs none has none.

    mmrazor's ``ABLoss`` is one stage of this, with the factor 3 / 1000 that is in ours, too.

    Args:
        stages: See :class:`~dpk_mm.models.loss_parts.stage_loss.StageLoss`; with channels. Published: all stages but
            the stem, each with half the weight of the next deeper one, which is what a stage without ``weight`` has.
        margin: m, > 0.
        loss_weight: Factor of the loss. Published: 1.

    Raises:
        UsageError: (a ValueError) If a stage is malformed, or at the forward pass a feature does not fit.
        ValueError: If ``margin`` is out of its range.

    Source: Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons", the
    alternative loss with margin; factors of the authors' code. Published, the loss is an initialisation: some 30
    epochs with it alone (``calculate_student_loss=False`` of the algorithm), and then a training without it from that
    student (``student_ckpt``).
    """

    needs_channels = True

    def __init__(
        self,
        stages: Sequence[Mapping[str, Any]],
        margin: float = 1.0,
        loss_weight: float = 1.0,
    ) -> None:
        deepest = len(stages) - 1
        stages = [
            {'weight': 0.5 ** (deepest - place), **stage} if isinstance(stage, Mapping) else stage
            for place, stage in enumerate(stages)
        ]
        super().__init__(stages, loss_weight)
        if not 0 < margin < float('inf'):
            raise ValueError(
                f'margin of ActivationBoundaryLoss must be > 0, but is {margin}; use 1.0.'
            )
        self.margin = margin
        self.connectors = nn.ModuleDict(
            {
                stage.name: regressor(stage, 'ActivationBoundaryLoss', relu=False)
                for stage in self.stages
                if stage.student_channels != stage.teacher_channels or stage.scale != 1
            }
        )

    def compare(self, stage: FeatureStage, student: Tensor, teacher: Tensor) -> Tensor:
        """The hinge of one stage."""
        if stage.name in self.connectors:
            student = apply_layers(self.connectors[stage.name], student)
        check_same_size(student, teacher, stage, 'ActivationBoundaryLoss')
        # +1 where the teacher's neuron is on, -1 where it is off; NaN where it is NaN
        side = torch.where(teacher.isnan(), teacher, (teacher > 0).to(teacher.dtype) * 2 - 1)
        hinge = (self.margin - side * student).relu()
        return hinge.square().sum() * (3 / 1000 / len(student))
