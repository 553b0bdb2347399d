"""The base class of the mask-ratio policies."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from .stages import PerStage, check_names, per_stage, stage_value

Features = Mapping[str, tuple[Tensor, Tensor]]
"""Stage name -> (student ``[N, C_s, H, W]``, teacher ``[N, C_t, H, W]``)."""


class MaskRatioPolicy:
    """Base of all policies: features of a mini-batch in, one ratio for every stage out.

    The ratio is a schedule and not a loss: it is computed without gradient, in float32 outside autocast, and is the
    same on every rank.

    Ratios are clamped to [min_ratio, max_ratio]. CKA of unrelated features is often negative, so ``1 - CKA`` can
    exceed 1; and at exactly 0 or 1 one encoder would get no token, and at 1 the student no gradient. Any ratio between
    leaves both sides a token, on maps of few tokens, too (:func:`dpk_mm.functional.num_masked_tokens`). [0.10, 0.95] is
    the range that the authors' code uses on ImageNet; the paper's text names none.

    Args:
        min_ratio: Lower clamp in [0, 1], for all stages or by stage.
        max_ratio: Upper clamp in [min_ratio, 1], for all stages or by stage.

    Attributes:
        ratios: The ratio of each stage in the last mini-batch.
        similarities: The similarity that it came from, where there is one.

    Raises:
        ValueError: If a limit is outside [0, 1] or the limits are crossed.
    """

    PER_STAGE: ClassVar[tuple[str, ...]] = ('min_ratio', 'max_ratio')
    """Attributes that may be a dict by stage."""

    def __init__(self, min_ratio: PerStage = 0.1, max_ratio: PerStage = 0.95) -> None:
        self.min_ratio = per_stage('min_ratio', min_ratio)
        self.max_ratio = per_stage('max_ratio', max_ratio)
        self._check_limits()
        self.epoch = 0
        self.ratios: dict[str, float] = {}
        self.similarities: dict[str, float] = {}

    def _check_limits(self) -> None:
        low, high = self.min_ratio, self.max_ratio
        if not isinstance(low, dict) and not isinstance(high, dict):
            if low > high:
                raise ValueError(f'min_ratio ({low}) must not exceed max_ratio ({high}).')
            return
        for stage in {
            **(low if isinstance(low, dict) else {}),
            **(high if isinstance(high, dict) else {}),
        }:
            a = low.get(stage, 0.0) if isinstance(low, dict) else low
            b = high.get(stage, 1.0) if isinstance(high, dict) else high
            if a > b:
                raise ValueError(
                    f'min_ratio ({a}) must not exceed max_ratio ({b}) of stage {stage!r}.'
                )

    @property
    def has_state(self) -> bool:
        """Whether the ratio of a stage depends on its earlier mini-batches."""
        return False

    def check_stages(self, stages: Collection[str]) -> None:
        """Compares the stages that the arguments name with those of a model.

        Args:
            stages: The stages of the model.

        Raises:
            ValueError: If an argument is a dict that lacks one of ``stages``, or has another one.
        """
        for name in self.PER_STAGE:
            check_names(name, getattr(self, name), stages)

    def __call__(self, features: Features) -> dict[str, float]:
        """The ratio of every stage for this mini-batch, each in [min_ratio, max_ratio]."""
        with torch.no_grad():
            unclamped = self.unclamped_ratios(features)
        ratios = {name: self._clamp(name, value) for name, value in unclamped.items()}
        # Two losses with stages of their own may share a policy.
        self.ratios = {**self.ratios, **ratios}
        return ratios

    def unclamped_ratios(self, features: Features) -> dict[str, float]:
        """The ratio of every stage before the clamp."""
        raise NotImplementedError

    def argument_for(self, name: str, stage: str) -> float:
        """The value of the argument ``name`` for one stage.

        Args:
            name: One of ``PER_STAGE``.
            stage: The stage.

        Raises:
            ValueError: If the argument is a dict without that stage.
        """
        return stage_value(name, getattr(self, name), stage)

    def _clamp(self, stage: str, value: float) -> float:
        return min(
            max(value, self.argument_for('min_ratio', stage)), self.argument_for('max_ratio', stage)
        )

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of a schedule, counted from 0."""
        self.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed run needs, in plain numbers."""
        return dict(
            type=type(self).__name__,
            epoch=self.epoch,
            ratios=dict(self.ratios),
            similarities=dict(self.similarities),
        )

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave."""
        self.epoch = int(state['epoch'])
        self.ratios = dict(state['ratios'])
        self.similarities = dict(state['similarities'])
