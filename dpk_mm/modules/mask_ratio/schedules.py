"""Ratios that depend on the config and the epoch alone."""

from __future__ import annotations

import math
from typing import ClassVar

from .policy import Features, MaskRatioPolicy
from .stages import PerStage, per_stage


class FixedMaskRatio(MaskRatioPolicy):
    """A constant ratio (Table 5).

    Args:
        ratio: pi in [0, 1], for all stages or by stage; it is not clamped further.

    Raises:
        ValueError: If a ratio is outside [0, 1].
    """

    PER_STAGE: ClassVar[tuple[str, ...]] = (*MaskRatioPolicy.PER_STAGE, 'ratio')

    def __init__(self, ratio: PerStage = 0.5) -> None:
        super().__init__(min_ratio=0.0, max_ratio=1.0)
        self.ratio = per_stage('ratio', ratio)

    def unclamped_ratios(self, features: Features) -> dict[str, float]:
        """``ratio`` of each stage."""
        return {stage: self.argument_for('ratio', stage) for stage in features}


class LinearMaskRatio(MaskRatioPolicy):
    """``pi = initial - epoch * decrement`` (Table 6).

    The text says "decrement = 0.95", which would reach zero after one epoch. The authors' code is
    ``(1 - epoch / 200) * 0.95``: it starts at 0.95 and loses 0.00475 an epoch. That is the default.

    Args:
        initial: Ratio of the first epoch in [0, 1], for all stages or by stage.
        decrement: Subtracted after every epoch, at least 0, for all stages or by stage.
        min_ratio: Lower clamp.
        max_ratio: Upper clamp.

    Raises:
        ValueError: If a number is out of its range.
    """

    PER_STAGE: ClassVar[tuple[str, ...]] = (*MaskRatioPolicy.PER_STAGE, 'initial', 'decrement')

    def __init__(
        self,
        initial: PerStage = 0.95,
        decrement: PerStage = 0.00475,
        min_ratio: PerStage = 0.1,
        max_ratio: PerStage = 0.95,
    ) -> None:
        super().__init__(min_ratio, max_ratio)
        self.initial = per_stage('initial', initial)
        self.decrement = per_stage('decrement', decrement, high=math.inf)

    def unclamped_ratios(self, features: Features) -> dict[str, float]:
        """``initial - epoch * decrement`` of each stage."""
        return {
            stage: self.argument_for('initial', stage)
            - self.epoch * self.argument_for('decrement', stage)
            for stage in features
        }


class ExponentialMaskRatio(MaskRatioPolicy):
    """``pi = initial * decay ** epoch`` (Table 6). The text's decay is 0.95, the authors' code has 0.99.

    Args:
        initial: Ratio of the first epoch in [0, 1], for all stages or by stage.
        decay: Factor of every epoch, in [0, 1], for all stages or by stage.
        min_ratio: Lower clamp.
        max_ratio: Upper clamp.

    Raises:
        ValueError: If a number is out of its range.
    """

    PER_STAGE: ClassVar[tuple[str, ...]] = (*MaskRatioPolicy.PER_STAGE, 'initial', 'decay')

    def __init__(
        self,
        initial: PerStage = 1.0,
        decay: PerStage = 0.95,
        min_ratio: PerStage = 0.1,
        max_ratio: PerStage = 0.95,
    ) -> None:
        super().__init__(min_ratio, max_ratio)
        self.initial = per_stage('initial', initial)
        self.decay = per_stage('decay', decay)

    def unclamped_ratios(self, features: Features) -> dict[str, float]:
        """``initial * decay ** epoch`` of each stage."""
        return {
            stage: self.argument_for('initial', stage)
            * self.argument_for('decay', stage) ** self.epoch
            for stage in features
        }
