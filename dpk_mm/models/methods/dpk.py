"""DPK, for classifiers with the mean squared error and for detectors with FGD."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...errors import UsageError, did_you_mean
from ..pairs import dpk_transforms, find_pair
from .detectors import fgd
from .losses import Losses

STAGE_WEIGHTS: dict[str, dict[str, float]] = {
    # of the authors' CIFAR training; the paper's text weighs the stages alike
    'cifar_code': dict(second_last=0.6, last=1.0),
}
"""Factors of stages by name, as a code base has them."""


def dpk(
    pair: str,
    stages: Sequence[str] | None = None,
    loss_weight: float = 0.2,
    stage_weights: str | Mapping[str, float] | None = None,
    size: str = 'large',
    **changes: Any,
) -> Losses:
    """DPK with the mean squared error (Eq. 4), for classifiers.

    Args:
        pair: Key of ``PAIRS``.
        stages: Which of its stages; all by default.
        loss_weight: beta in Eq. 3.
        stage_weights: Factors of stages by name, 1 for the others, or the name of a set of :data:`STAGE_WEIGHTS`.
        size: A key of ``SIZES`` for the transformation modules: 'large' as published, or 'small', encoder and decoder
            of one block each.
        **changes: Arguments of every stage, in place of the pair's, such as ``embed_dims=256``.

    Raises:
        UsageError: (a ValueError) If the pair has no such stage, ``stage_weights`` names no set, or there is no such
            size.
    """
    transforms = {
        name: stage | changes for name, stage in dpk_transforms(pair, stages, size).items()
    }
    for name, weight in _stage_weights(stage_weights, find_pair(pair).stages).items():
        if name in transforms:
            transforms[name]['weight'] = weight
    return dict(loss_dpk=dict(type='DPKLoss', loss_weight=loss_weight, transforms=transforms))


def _stage_weights(
    weights: str | Mapping[str, float] | None, stages: Collection[str]
) -> Mapping[str, float]:
    if isinstance(weights, str):
        if weights not in STAGE_WEIGHTS:
            raise UsageError(
                f'stage_weights is {weights!r}, but the sets are {", ".join(STAGE_WEIGHTS)}'
                f'{did_you_mean(weights, STAGE_WEIGHTS) or "."}'
            )
        return STAGE_WEIGHTS[weights]
    for name in weights or ():
        if name not in stages:
            raise UsageError(
                f'stage_weights names {name!r}, but the stages are {", ".join(stages)}'
                f'{did_you_mean(name, stages) or "."}'
            )
    return weights or {}


def dpk_fgd(
    pair: str,
    weights: str | Mapping[str, float],
    stages: Sequence[str] | None = None,
    name: str = 'loss_dpk',
    size: str = 'large',
    hybrids_alone: bool = False,
) -> Losses:
    """DPK with FGD as its criterion (Eq. 9): FGD sees all levels, those of ``stages`` as hybrid features.

    Args:
        pair: Key of ``PAIRS``.
        weights: As of :func:`fgd`.
        stages: Which of the pair's stages; all by default.
        name: The loss's key.
        size: As of :func:`dpk`.
        hybrids_alone: Whether FGD sees the levels of ``stages`` alone, beside another loss on the student's own
            features: ``fgd(pair, weights) | dpk_fgd(pair, weights, hybrids_alone=True)``.

    Raises:
        UsageError: (a ValueError) If the pair is not one of detectors, or has no such stage or size.
    """
    criterion = fgd(pair, weights)['loss_fgd']
    transforms = dpk_transforms(pair, stages, size)
    if hybrids_alone:
        criterion['levels'] = tuple(stage['index'] for stage in transforms.values())
    return {name: dict(type='DPKLoss', transforms=transforms, criterion=criterion)}
