"""SAD (AFD): which of the student's stages should follow which of the teacher's is learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn
from torch.linalg import vector_norm

from ...modules.hybrid_transform import check_choice
from ..loss_parts.distill_loss import WHOLE
from ..loss_parts.regressor import apply_layers, check_batch_norm, pool_to
from ..loss_parts.stage_loss import StageLoss


@MODELS.register_module()
class AFDLoss(StageLoss):
    """AFD: ``sum over t and s of alpha_ts D(t, s)``, all stages of the student against all of the teacher.

    D is the distance of AT's maps ``vec(mean_c F^2)`` of length 1, the student's squares averaged to the teacher's
    size. alpha, which sums to 1 over the student's stages, is the attention of a query of the teacher's pooled feature
    (linear, batch normalisation) on keys of the student's (the same with ReLU, then a linear layer for each of the
    teacher's stages) and of learned position vectors, over ``sqrt(width)``. All of that is trained with the student.

    The stages of the two sides are the entries of ``stages``; which stands beside which does not matter, nor ``scale``.

    Args:
        stages: See :class:`~dpk_mm.models.loss_parts.stage_loss.StageLoss`; with channels. Published: the outputs of
            all residual blocks. ``weight`` is the factor of a stage of the teacher.
        width: Length of queries and keys, > 0.
        mode: ``'code'``: D is the mean over positions of the squared difference. ``'paper'``: the L2 norm.
        loss_weight: Factor of the loss. Published: 200 with ``'code'``.

    Raises:
        UsageError: (a ValueError) If a stage is malformed, or at the forward pass a feature does not fit, or in
            training the batch has one image.
        ValueError: If ``width`` or ``mode`` is out of its range.

    Source: Ji et al., "Show, Attend and Distill: Knowledge Distillation via Attention-based Feature Matching", the
    attention alpha and the loss L_AFD, and the authors' code.
    """

    needs_channels = True
    checks_scale = False

    def __init__(
        self,
        stages: Sequence[Mapping[str, Any]],
        width: int = 128,
        mode: str = 'code',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(stages, loss_weight)
        check_choice('mode of AFDLoss', mode, ('code', 'paper'))
        if not isinstance(width, int) or width < 1:
            raise ValueError(f'width of AFDLoss must be an integer > 0, but is {width!r}; use 128.')
        self.mode, self.width = mode, width
        self.queries = nn.ModuleDict()
        self.keys = nn.ModuleDict()
        for stage in self.stages:
            own, given = int(stage.student_channels or 0), int(stage.teacher_channels or 0)
            self.queries[stage.name] = nn.Sequential(nn.Linear(given, width), nn.BatchNorm1d(width))
            self.keys[stage.name] = nn.Sequential(
                nn.Linear(own, width), nn.BatchNorm1d(width), nn.ReLU()
            )
        count = len(self.stages)
        self.bilinear = nn.Sequential(
            nn.Linear(width, width * count), nn.BatchNorm1d(width * count)
        )
        self.teacher_positions = nn.Parameter(torch.empty(count, width))
        self.student_positions = nn.Parameter(torch.empty(count, width))
        nn.init.xavier_normal_(self.teacher_positions)
        nn.init.xavier_normal_(self.student_positions)

    def parts(
        self, student_feats: Sequence[Tensor], teacher_feats: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """The loss as its only part.

        Args:
            student_feats: ``[N, C_s, H, W]`` each, as recorded; N > 1 in training.
            teacher_feats: ``[N, C_t, H, W]`` each; no gradient flows into them.
        """
        own, given = zip(*self.pick(student_feats, teacher_feats), strict=True)
        check_batch_norm(self, len(own[0]), 'AFDLoss')  # of pooled features
        with torch.autocast(own[0].device.type, enabled=False):
            shares = self.attention(own, given)
            total = own[0].new_zeros(())
            for place, (stage, teacher) in enumerate(zip(self.stages, given, strict=True)):
                size = list(teacher.shape[2:])
                strength = teacher.square().mean(dim=1).flatten(1)
                theirs = F.normalize(strength, dim=1)[:, None]
                maps = [pool_to(x.square().mean(dim=1, keepdim=True), size) for x in own]
                ours = F.normalize(torch.cat(maps, dim=1).flatten(2), dim=2)  # [N, stages, HW]
                gap = ours - theirs
                each = gap.square().mean(dim=2) if self.mode == 'code' else vector_norm(gap, dim=2)
                total = total + stage.weight * (shares[:, place] * each).sum(dim=1).mean()
            return {WHOLE: self.loss_weight * total}

    def attention(self, own: Sequence[Tensor], given: Sequence[Tensor]) -> Tensor:
        """alpha, ``[N, teacher's stages, student's stages]``, sums of 1 over the last dimension."""
        count = len(self.stages)
        query = torch.stack(
            [
                apply_layers(self.queries[stage.name], x.mean(dim=(2, 3)))
                for stage, x in zip(self.stages, given, strict=True)
            ],
            dim=1,
        )  # [N, T, width]
        key = torch.stack(
            [
                apply_layers(self.keys[stage.name], x.mean(dim=(2, 3)))
                for stage, x in zip(self.stages, own, strict=True)
            ],
            dim=1,
        )  # [N, S, width]
        key = apply_layers(self.bilinear, key.flatten(0, 1))
        key = key.view(-1, count, count, self.width)  # [N, S, T, width]
        score = torch.einsum('nstw,ntw->nts', key, query)
        score = score + (self.teacher_positions @ self.student_positions.T).to(score.dtype)
        return (score / self.width**0.5).softmax(dim=2)
