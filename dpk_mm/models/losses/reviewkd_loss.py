"""ReviewKD: each of the teacher's stages against what the student makes of that stage and all deeper ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ..loss_parts.regressor import check_batch_norm
from ..loss_parts.stage_loss import StageLoss
from ..loss_parts.warmup import Warmup


class AttentionFusion(nn.Module):
    """ABF: mixes a stage of the student with what came from the deeper ones, by two attention maps.

    Args:
        student_channels: Channels of the stage.
        width: Channels of what is handed on to the next shallower stage.
        teacher_channels: Channels of the result.
        fuses: Whether there is a deeper stage.
    """

    def __init__(
        self, student_channels: int, width: int, teacher_channels: int, fuses: bool
    ) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            nn.Conv2d(student_channels, width, 1, bias=False), nn.BatchNorm2d(width)
        )
        self.expand = nn.Sequential(
            nn.Conv2d(width, teacher_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(teacher_channels),
        )
        self.attention = nn.Conv2d(2 * width, 2, 1) if fuses else None
        for conv in (self.reduce[0], self.expand[0]):
            nn.init.kaiming_uniform_(conv.weight, a=1)

    def forward(
        self, student: Tensor, deeper: Tensor | None, size: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """The stage in the teacher's channels, and what is handed on.

        Args:
            student: ``[N, C_s, H, W]``.
            deeper: ``[N, width, H', W']``, of the deeper stages.
            size: The teacher's (height, width).
        """
        mixed = self.reduce(student)
        if self.attention is not None and deeper is not None:
            deeper = _resize(deeper, mixed.shape[2:])
            shares = self.attention(torch.cat([mixed, deeper], dim=1)).sigmoid()
            mixed = mixed * shares[:, :1] + deeper * shares[:, 1:]
        mixed = _resize(mixed, size)
        return self.expand(mixed), mixed


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    same = tuple(x.shape[2:]) == tuple(size)
    return x if same else F.interpolate(x, tuple(size), mode='nearest')


@MODELS.register_module()
class ReviewKDLoss(StageLoss):
    """ReviewKD: the teacher's stages against the student's, each fused with the deeper ones (ABF), by HCL.

    HCL is the squared error of the map and of its averages to 4, 2 and 1 cells a side (those that are fewer than its
    rows, as in the authors' code), with the factors 1, 1/2, 1/4, 1/8 over their sum. The layers of the fusion are
    trained with the student.

    ``pooled=True`` of a stage takes the mean over its cells on both sides, ``[N, C, 1, 1]``: what the classifier reads.
    For another ratio of sides than 1, set ``scale`` of the stage.

    Args:
        stages: See :class:`~dpk_mm.models.loss_parts.stage_loss.StageLoss`; with channels. Published: all stages but
            the stem, the teacher's before the ReLU, and the pooled feature.
        width: Channels between the stages; None takes the student's of the deepest one, at most 512.
        warmup: Passes over the training data until the loss has its weight, see
            :class:`~dpk_mm.models.loss_parts.warmup.Warmup`. Published: 20.
        loss_weight: Factor of the loss. Published for CIFAR-100: 0.6 for ResNet-20, 1 for ResNet-32, 5 for ResNet-8x4
            and WRNs, 8 for ShuffleNetV2.

    Raises:
        UsageError: (a ValueError) If a stage is malformed, or at the forward pass a feature does not fit, or in
            training a pooled stage has one image.

    Source: Chen et al., "Distilling Knowledge via Knowledge Review", residual learning with ABF and HCL, and the
    authors' code.
    """

    needs_channels = True
    extra_keys = ('pooled',)

    def __init__(
        self,
        stages: Sequence[Mapping[str, Any]],
        width: int | None = None,
        warmup: int = 0,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(stages, loss_weight)
        channels = [
            (int(s.student_channels or 0), int(s.teacher_channels or 0)) for s in self.stages
        ]
        self.warmup = Warmup(warmup, 'ReviewKDLoss')
        width = width or min(512, channels[-1][0])
        self.fusions = nn.ModuleDict(
            {
                stage.name: AttentionFusion(own, width, given, fuses=stage is not self.stages[-1])
                for stage, (own, given) in zip(self.stages, channels, strict=True)
            }
        )

    def parts(
        self, student_feats: Sequence[Tensor], teacher_feats: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """HCL by stage.

        Args:
            student_feats: ``[N, C_s, H, W]`` each, as recorded.
            teacher_feats: ``[N, C_t, H, W]`` each; no gradient flows into them.
        """
        factor = self.warmup.factor()
        values = super().parts(student_feats, teacher_feats)
        return {name: factor * value for name, value in values.items()}

    def compare_all(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """HCL of every stage; the deepest is fused first."""
        values = []
        handed_on: Tensor | None = None
        for stage, (student, teacher) in zip(self.stages[::-1], pairs[::-1], strict=True):
            fusion = self.fusions[stage.name]
            for part, x in ((fusion.reduce, student), (fusion.expand, teacher)):
                check_batch_norm(part, x.numel() // x.shape[1], 'ReviewKDLoss')
            dtype = next(fusion.parameters()).dtype
            own, handed_on = fusion(student.to(dtype), handed_on, teacher.shape[2:])
            values.append(hierarchical_context(own.to(teacher.dtype), teacher))
        return values[::-1]

    def pick(
        self, student_feats: Sequence[Tensor], teacher_feats: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """The features of both sides by stage, pooled where the stage says so."""
        pairs = super().pick(student_feats, teacher_feats)
        for place, (stage, (own, given)) in enumerate(zip(self.stages, pairs, strict=True)):
            if stage.extra.get('pooled'):
                pairs[place] = own.mean((2, 3), keepdim=True), given.mean((2, 3), keepdim=True)
        return pairs


def hierarchical_context(student: Tensor, teacher: Tensor) -> Tensor:
    """HCL of two maps ``[N, C, H, W]`` of one size, a scalar."""
    value, total, factor = F.mse_loss(student, teacher), 1.0, 1.0
    for cells in (4, 2, 1):
        if cells < teacher.shape[2]:
            factor /= 2
            pooled = [F.adaptive_avg_pool2d(x, cells) for x in (student, teacher)]
            value = value + factor * F.mse_loss(*pooled)
            total += factor
    return value / total
