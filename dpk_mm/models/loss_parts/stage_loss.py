"""The base of the losses that compare features stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from .distill_loss import WHOLE, DistillLoss
from .feature_stage import SIDES, FeatureStage, check_scale, parse_stages, pick_feature


class StageLoss(DistillLoss):
    """``loss_weight * sum over stages of weight * compare(student, teacher)``.

    A subclass writes :meth:`compare` for one stage, and builds what it needs for each of ``self.stages``.

    A stage is a dict of ``index``, its place in both recorded tuples, or ``student_index`` and ``teacher_index``;
    ``weight`` (1.0); ``student_channels`` and ``teacher_channels``, where the loss builds layers; and ``scale`` (1),
    the student's side over the teacher's: 2 where the student's map is twice as large, 0.5 where it is half as large.
    Maps of another ratio are refused, since they are mostly stages of two strides, paired by their places.

    Args:
        stages: The stages, shallow first.
        loss_weight: Factor of the loss, >= 0.

    Raises:
        UsageError: (a ValueError) If a stage is malformed, or at the forward pass a feature does not fit.
    """

    needs_channels: ClassVar[bool] = False
    """Whether every stage has to say its channels."""
    checks_scale: ClassVar[bool] = True
    """Whether the sides of the two features of a stage have to be in the ratio ``scale``."""
    extra_keys: ClassVar[tuple[str, ...]] = ()
    """Further keys of a stage."""

    def __init__(self, stages: Sequence[Mapping[str, Any]], loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.stages = parse_stages(
            stages, type(self).__name__, self.needs_channels, self.extra_keys
        )

    def parts(
        self, student_feats: Sequence[Tensor], teacher_feats: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """The loss by stage, ``stage<index on the student's side>``; of a single stage, as its only part.

        Args:
            student_feats: ``[N, C_s, H, W]`` each, as recorded.
            teacher_feats: ``[N, C_t, H, W]`` each; no gradient flows into them.
        """
        pairs = self.pick(student_feats, teacher_feats)
        with torch.autocast(pairs[0][0].device.type, enabled=False):
            values = self.compare_all(pairs)
        names = [WHOLE] if len(self.stages) == 1 else [stage.name for stage in self.stages]
        return {
            name: self.loss_weight * stage.weight * value
            for name, stage, value in zip(names, self.stages, values, strict=True)
        }

    def pick(
        self, student_feats: Sequence[Tensor], teacher_feats: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """The features of both sides, by stage, in float32 or more."""
        owner = type(self).__name__
        pairs = []
        for stage in self.stages:
            student = pick_feature(stage, 'student', student_feats, owner)
            teacher = pick_feature(stage, 'teacher', teacher_feats, owner)
            if self.checks_scale:
                check_scale(stage, student, teacher, owner)
            pairs.append((student, teacher))
        return pairs

    def compare_all(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """The loss of every stage, scalars without weights; for losses whose stages depend on each other."""
        return [
            self.compare(stage, student, teacher)
            for stage, (student, teacher) in zip(self.stages, pairs, strict=True)
        ]

    def compare(self, stage: FeatureStage, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of one stage, a scalar without weights; ``[N, C_s, H_s, W_s]`` and ``[N, C_t, H_t, W_t]``."""
        raise NotImplementedError(f'{type(self).__name__} has to define compare().')

    def feature_names(self) -> dict[tuple[str, int], str]:
        """The names of the stages, by side and index."""
        return {(side, getattr(stage, side)): stage.name for stage in self.stages for side in SIDES}
