"""AT: where the teacher's activations are strong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor
from torch.linalg import vector_norm

from ...modules.hybrid_transform import check_choice
from ..loss_parts.feature_stage import FeatureStage
from ..loss_parts.regressor import pool_to_smaller
from ..loss_parts.stage_loss import StageLoss


@MODELS.register_module()
class AttentionTransferLoss(StageLoss):
    """AT: the distance of the attention maps ``Q = vec(mean_c F^2)``, each divided by its L2 norm.

    Channels may differ. Where ``scale`` is not 1, the larger map is averaged to the size of the smaller one. mmrazor's
    ``ATLoss`` is one stage of ``'code'`` for maps of one size.

    Args:
        stages: See :class:`~dpk_mm.models.loss_parts.stage_loss.StageLoss`. Published: all stages but the stem.
        mode: ``'code'``: the mean over images and positions of ``(Q_s - Q_t)^2``. ``'paper'``: the mean over images of
            the distance ``|Q_s - Q_t|``, not squared (Eq. 2).
        loss_weight: Factor of the loss. Published: 1000 with ``'code'``.

    Raises:
        UsageError: (a ValueError) If a stage is malformed, or at the forward pass a feature does not fit.
        ValueError: If ``mode`` is unknown.

    Source: Zagoruyko and Komodakis, "Paying More Attention to Attention", Eq. 2; the authors' code squares, and CRD's
    comparison and mdistiller have its weight.
    """

    def __init__(
        self, stages: Sequence[Mapping[str, Any]], mode: str = 'code', loss_weight: float = 1.0
    ) -> None:
        super().__init__(stages, loss_weight)
        check_choice('mode of AttentionTransferLoss', mode, ('code', 'paper'))
        self.mode = mode

    def compare(self, stage: FeatureStage, student: Tensor, teacher: Tensor) -> Tensor:
        """The distance of the attention maps of one stage."""
        difference = [_attention(x) for x in pool_to_smaller(student, teacher)]
        gap = difference[0] - difference[1]
        if self.mode == 'code':
            return gap.square().mean()
        # not the root of a sum of squares, whose gradient is not finite where both are the same
        return vector_norm(gap, dim=1).mean()


def _attention(x: Tensor) -> Tensor:
    """``[N, HW]``, each row of length 1."""
    return F.normalize(x.square().mean(dim=1).flatten(1), dim=1)
