"""Manifold distillation: how the patches of a transformer lie to each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor

from ...errors import UsageError
from ..loss_parts.distill_loss import DistillLoss
from ..loss_parts.feature_stage import SIDES, parse_stages, pick_any

MOST_EXTRA_TOKENS = 2
"""How many tokens of one side are taken for class and distillation tokens without being named."""


@MODELS.register_module()
class ManifoldLoss(DistillLoss):
    """``mean (M_s - M_t)^2`` of the cosines M between patches, in three selections that stand for the whole.

    All pairs of a batch are too many, so these are taken: ``patch``, the patches of one image; ``sample``, the patches
    of one place in all images; ``random``, ``patches`` patches of the batch drawn at random. No layer is needed, since
    the widths do not enter.

    Features are ``[N, L, C]`` tokens, or maps ``[N, C, H, W]``, whose cells are the patches. Class and distillation
    tokens stand first: the longer of the two sequences loses as many tokens at its start as it has more than the other,
    and ``student_extra_tokens`` and ``teacher_extra_tokens`` of a stage take them away first. A difference of more than
    two then is that of two grids, and refused.

    Args:
        stages: Each a dict of ``index``, or ``student_index`` and ``teacher_index``, ``weight`` (1.0) and the two
            counts of tokens (0). Published: the first four blocks and the last four.
        patch_weight: Factor of ``patch``, >= 0. Published: 4.
        sample_weight: Factor of ``sample``, >= 0. Published: 0.1.
        random_weight: Factor of ``random``, >= 0. Published: 0.2.
        patches: How many are drawn, > 0. Published: 192.
        loss_weight: Factor of the loss. Published: 1, beside KD of weight 1 and no cross entropy with the labels.

    Raises:
        UsageError: (a ValueError) If a stage is malformed, or at the forward pass a feature does not fit.
        ValueError: If a weight or ``patches`` is out of its range.

    Source: Hao et al., "Learning Efficient Vision Transformers via Fine-Grained Manifold Distillation", L_mf (the
    decoupled relation map); the authors' code, which averages over the stages, and its published command.
    """

    def __init__(
        self,
        stages: Sequence[Mapping[str, Any]],
        patch_weight: float = 4.0,
        sample_weight: float = 0.1,
        random_weight: float = 0.2,
        patches: int = 192,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(loss_weight)
        extra = [f'{side}_extra_tokens' for side in SIDES]
        # neither widths nor sides enter, so that a wrong one would never be found
        unread = ('student_channels', 'teacher_channels', 'scale')
        self.stages = parse_stages(stages, 'ManifoldLoss', extra=extra, unread=unread)
        self.weights = dict(patch=patch_weight, sample=sample_weight, random=random_weight)
        for name, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(
                    f'{name}_weight of ManifoldLoss must be a finite number >= 0, but is {weight}.'
                )
        if not any(self.weights.values()):
            raise ValueError(
                'patch_weight, sample_weight and random_weight of ManifoldLoss are all 0; set one.'
            )
        if not isinstance(patches, int) or patches < 1:
            raise ValueError(
                f'patches of ManifoldLoss must be an integer > 0, but is {patches!r}; use 192.'
            )
        self.patches = patches

    def parts(
        self, student_feats: Sequence[Tensor], teacher_feats: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """``patch``, ``sample`` and ``random``, those with a weight > 0, each averaged over the stages.

        Args:
            student_feats: ``[N, L, C_s]`` or ``[N, C_s, H, W]`` each, as recorded.
            teacher_feats: ``[N, L, C_t]`` or ``[N, C_t, H, W]`` each; no gradient flows into them.
        """
        total: dict[str, Tensor] = {}
        for stage in self.stages:
            recorded = [
                pick_any(stage, side, feats, 'ManifoldLoss')
                for side, feats in zip(SIDES, (student_feats, teacher_feats), strict=True)
            ]
            pair = [
                self._tokens(stage.extra.get(f'{side}_extra_tokens', 0), side, feature)
                for side, feature in zip(SIDES, recorded, strict=True)
            ]
            _check_grids(stage.name, recorded, pair)
            length = min(x.shape[1] for x in pair)
            own, given = (F.normalize(x[:, x.shape[1] - length :], dim=2) for x in pair)
            if own.shape[0] != given.shape[0]:
                raise UsageError(
                    f'ManifoldLoss needs the same images on both sides, but {stage.name} has {own.shape[0]} of the '
                    f'student and {given.shape[0]} of the teacher; record both from the same forward pass.'
                )
            with torch.autocast(own.device.type, enabled=False):
                for name, value in self._terms(own, given).items():
                    weight = self.loss_weight * self.weights[name] * stage.weight / len(self.stages)
                    total[name] = total.get(name, 0) + weight * value
        return total

    def _terms(self, own: Tensor, given: Tensor) -> dict[str, Tensor]:
        """The three selections of one stage, ``[N, L, C]`` of length 1."""
        terms = {}
        if self.weights['patch']:
            terms['patch'] = _gap(own, given)
        if self.weights['sample']:
            terms['sample'] = _gap(own.transpose(0, 1), given.transpose(0, 1))
        if self.weights['random']:
            count = own.shape[0] * own.shape[1]
            # drawn on the CPU: the same numbers on every device
            drawn = torch.randperm(count)[: self.patches].to(own.device)
            terms['random'] = _gap(own.flatten(0, 1)[drawn], given.flatten(0, 1)[drawn])
        return terms

    @staticmethod
    def _tokens(extra: int, side: str, feature: Tensor) -> Tensor:
        if feature.ndim == 4:
            feature = feature.flatten(2).transpose(1, 2)
        if feature.ndim != 3 or not 0 <= extra < feature.shape[1]:
            raise UsageError(
                f"ManifoldLoss expects the {side}'s features to be [N, L, C] or [N, C, H, W] with more than {extra} "
                f'tokens, but found {list(feature.shape)}; record the blocks, and set {side}_extra_tokens.'
            )
        return feature[:, extra:]

    def feature_names(self) -> dict[tuple[str, int], str]:
        """The names of the stages, by side and index."""
        return {(side, getattr(stage, side)): stage.name for stage in self.stages for side in SIDES}


def _check_grids(name: str, recorded: Sequence[Tensor], tokens: Sequence[Tensor]) -> None:
    """Refuses patches of two grids: cut to one length, they would be patches of different places."""
    grids = [f'{x.shape[2]}x{x.shape[3]} cells' for x in recorded if x.ndim == 4]
    lengths = [x.shape[1] for x in tokens]
    # as many as there are class and distillation tokens
    if abs(lengths[0] - lengths[1]) > MOST_EXTRA_TOKENS or len(set(grids)) > 1:
        own, given = grids if len(set(grids)) > 1 else [f'{n} tokens' for n in lengths]
        raise UsageError(
            f'ManifoldLoss needs one grid of patches on both sides, but {name} has {own} of the student and {given} of '
            'the teacher; compare stages of one grid, or set teacher_input_size so that the grids are equal.'
        )


def _gap(own: Tensor, given: Tensor) -> Tensor:
    """Mean squared difference of the cosines; ``[..., L, C]`` of length 1."""
    return F.mse_loss(own @ own.transpose(-1, -2), given @ given.transpose(-1, -2))
