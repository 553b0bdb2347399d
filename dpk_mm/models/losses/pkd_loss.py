"""PKD: the correlation of student and teacher features, channel by channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmrazor.models.losses import PKDLoss
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ..loss_parts.level import Level
from ..loss_parts.level_loss import LevelLoss


@MODELS.register_module()
class LevelPKDLoss(LevelLoss):
    """PKD: half the squared difference of features of mean 0 and variance 1, mmrazor's ``PKDLoss`` in our vocabulary.

    For every level, with the m = N H W values of a channel divided by their deviation after their mean is taken off::

        loss = mean over channels of sum((S_hat - T_hat)^2) / (2 m) = (m - 1) / m * mean over channels of (1 - r)

    r is Pearson's correlation of the two channels. The factor (m - 1) / m, between 0.998 and 1 from 512 values on, is
    there because the code divides by the unbiased deviation.

    mmrazor's formula is right, and is used. What this class adds: several levels in one loss; a student of another
    width alone is resized (mmrazor compares heights only, and then stops at an assertion); no gradient to the teacher;
    float32 under autocast; a 1x1 convolution where the channels differ, without a bias, which the mean would take off.
    The name ``PKDLoss`` is that of mmrazor's.

    Args:
        levels: As of :class:`~dpk_mm.models.loss_parts.level_loss.LevelLoss`.
        student_channels: Channels of the student's features, where a level does not say its own.
        teacher_channels: Channels of the teacher's features.
        loss_weight: Factor of the loss. mmrazor's configs of the method have 6 for Faster R-CNN and 10 for RetinaNet.
        by_level: Whether :meth:`parts` gives one number for each level.

    Raises:
        ValueError: If an argument is out of its range.

    Source: Cao et al. 2022, "PKD: General Distillation Framework for Object Detectors via Pearson Correlation
    Coefficient", the loss on FPN features, in its form 1 - r.
    """

    def __init__(
        self,
        levels: Sequence[int | Mapping[str, Any]] = (0, 1, 2, 3),
        student_channels: int = 256,
        teacher_channels: int = 256,
        loss_weight: float = 6.0,
        by_level: bool = False,
    ) -> None:
        super().__init__(levels, student_channels, teacher_channels, loss_weight, by_level)
        self.pearson = PKDLoss(loss_weight=1.0)

    def make_align(self, level: Level) -> nn.Module | None:
        """A 1x1 convolution without bias where the channels differ."""
        if level.student_channels == level.teacher_channels:
            return None
        return nn.Conv2d(level.student_channels, level.teacher_channels, 1, bias=False)

    def term(self, level: Level, student: Tensor, teacher: Tensor) -> Tensor:
        """``mean over channels of (m - 1) / m * (1 - r)``.

        Raises:
            ValueError: If a channel has one value only, which has no correlation.
        """
        if student[:, 0].numel() < 2:
            raise ValueError(
                f'{type(self).__name__} needs two values of a channel or more, but level {level.student} has the '
                f'shape {list(student.shape)}; take that level out, or use a larger batch.'
            )
        return self.pearson(student, teacher)
