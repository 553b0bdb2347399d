"""CWD: where each channel is active, as a distribution over positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmrazor.models.losses import ChannelWiseDivergence
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ..loss_parts.level import Level
from ..loss_parts.level_loss import LevelLoss


@MODELS.register_module()
class CWDLoss(LevelLoss):
    """CWD: mmrazor's ``ChannelWiseDivergence`` on several levels, in our vocabulary.

    For every level, with phi the softmax over the H W positions of a channel divided by tau::

        loss = tau^2 / (N C) * sum over images and channels of KL(phi(T) || phi(S))

    mmrazor's formula is right, and is used. What this class adds: several levels in one loss; no gradient to the
    teacher; float32 under autocast; features in the channels-last layout, at which mmrazor's stops with an error; a 1x1
    convolution where the channels differ, without a bias, which the softmax would take off.

    Args:
        levels: As of :class:`~dpk_mm.models.loss_parts.level_loss.LevelLoss`.
        student_channels: Channels of the student's features, where a level does not say its own.
        teacher_channels: Channels of the teacher's features.
        tau: Temperature, > 0. mmrazor's configs of detectors have 1; the paper has 4 for segmentation.
        loss_weight: Factor of the loss. mmrazor's configs have 10 for Faster R-CNN and RetinaNet alike, at five levels
            of each.
        by_level: Whether :meth:`parts` gives one number for each level.

    Raises:
        ValueError: If an argument is out of its range.

    Source: Shu et al. 2021, "Channel-wise Knowledge Distillation for Dense Prediction", the softmax over
    positions and the channel-wise divergence.
    """

    def __init__(
        self,
        levels: Sequence[int | Mapping[str, Any]] = (0, 1, 2, 3),
        student_channels: int = 256,
        teacher_channels: int = 256,
        tau: float = 1.0,
        loss_weight: float = 10.0,
        by_level: bool = False,
    ) -> None:
        super().__init__(levels, student_channels, teacher_channels, loss_weight, by_level)
        if not tau > 0:
            raise ValueError(f'tau of CWDLoss must be > 0, but is {tau}; use 1.0.')
        self.divergence = ChannelWiseDivergence(tau, loss_weight=1.0)

    def make_align(self, level: Level) -> nn.Module | None:
        """A 1x1 convolution without bias where the channels differ."""
        if level.student_channels == level.teacher_channels:
            return None
        return nn.Conv2d(level.student_channels, level.teacher_channels, 1, bias=False)

    def term(self, level: Level, student: Tensor, teacher: Tensor) -> Tensor:
        """``tau^2 / (N C) * KL``, summed over images and channels."""
        return self.divergence(student.contiguous(), teacher.contiguous())
