"""Methods on the levels of a detector's feature pyramid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import UsageError
from ..pairs import find_pair
from .losses import Losses


def fgd(pair: str, weights: str | Mapping[str, float], name: str = 'loss_fgd') -> Losses:
    """FGD on all levels of a detector's neck that the pair compares.

    Args:
        pair: Key of ``PAIRS``.
        weights: Name of published weights, or the four of them; see ``FGDLoss``.
        name: The loss's key.

    Raises:
        UsageError: (a ValueError) If the pair is not one of detectors.
    """
    return {name: dict(type='FGDLoss', weights=weights, **_pyramid(pair, 'FGD'))}


def level_weights(losses: Losses, weights: Mapping[int, float] | None = None) -> Losses:
    """The same losses, each level of the pyramid written out with its weight, which a config can then change.

    Args:
        losses: With ``levels``, as :func:`fgd` gives them; a level that is a dict already keeps its other keys.
        weights: Index of a level (the student's) -> factor, 0 to leave it out; the others keep theirs, 1 by default.

    Raises:
        UsageError: (a ValueError) If a loss has no levels at all, or no such level.
    """
    weights = dict(weights or {})
    found = {}
    for name, loss in losses.items():
        if not loss.get('levels'):
            raise UsageError(
                f'level_weights: {name} ({loss.get("type")}) has no levels, but a loss on a feature pyramid was '
                'expected, as fgd, pkd, cwd, mgd, fgfi, gid and agnl give it; set loss_weight of this loss instead, or '
                'transforms.<name>.weight of a DPKLoss.'
            )
        entries = [
            dict(level) if isinstance(level, Mapping) else dict(index=level)
            for level in loss['levels']
        ]
        indices = [entry.get('student_index', entry.get('index')) for entry in entries]
        for index in weights:
            if index not in indices:
                raise UsageError(f'level_weights: {name} has no level {index}, but {indices}.')
        found[name] = loss | dict(
            levels=[
                entry | dict(weight=float(weights.get(index, entry.get('weight', 1.0))))
                for index, entry in zip(indices, entries, strict=True)
            ]
        )
    return found


# by the detector that a pair's name ends with
PYRAMID_WEIGHTS: dict[str, dict[str, float]] = {
    'PKD': dict(faster_rcnn=6.0, retinanet=10.0),  # mmrazor's configs
    'CWD': dict(faster_rcnn=10.0, retinanet=10.0),  # mmrazor's configs
    'MGD': dict(faster_rcnn=5e-7, retinanet=2e-5),  # the authors' configs
    'FGFI': dict(faster_rcnn=0.01, retinanet=0.01),  # the authors' code, one VGG feature map
}


def pkd(pair: str, loss_weight: float | None = None, **kwargs: Any) -> Losses:
    """PKD on all levels of a detector's neck that the pair compares.

    Args:
        pair: Key of ``PAIRS``.
        loss_weight: By default the published one, 6 for Faster R-CNN and 10 for RetinaNet.
        **kwargs: Of ``LevelPKDLoss``.

    Raises:
        UsageError: (a ValueError) If the pair is not one of detectors, or has no published weight.
    """
    weight = _pyramid_weight(pair, 'PKD', loss_weight)
    return dict(
        loss_pkd=dict(type='LevelPKDLoss', loss_weight=weight) | _pyramid(pair, 'PKD') | kwargs
    )


def cwd(pair: str, tau: float = 1.0, loss_weight: float | None = None, **kwargs: Any) -> Losses:
    """CWD on all levels of a detector's neck that the pair compares.

    Args:
        pair: Key of ``PAIRS``.
        tau: Temperature.
        loss_weight: By default the published one, 10.
        **kwargs: Of ``CWDLoss``.

    Raises:
        UsageError: (a ValueError) If the pair is not one of detectors, or has no published weight.
    """
    weight = _pyramid_weight(pair, 'CWD', loss_weight)
    return dict(
        loss_cwd=dict(type='CWDLoss', tau=tau, loss_weight=weight) | _pyramid(pair, 'CWD') | kwargs
    )


def mgd(
    pair: str, mask_ratio: float | None = None, loss_weight: float | None = None, **kwargs: Any
) -> Losses:
    """MGD on all levels of a detector's neck that the pair compares.

    Args:
        pair: Key of ``PAIRS``.
        mask_ratio: By default the published one, 0.45 for Faster R-CNN and 0.65 for RetinaNet.
        loss_weight: By default the published one, 5e-7 for Faster R-CNN and 2e-5 for RetinaNet.
        **kwargs: Of ``LevelMGDLoss``.

    Raises:
        UsageError: (a ValueError) If the pair is not one of detectors, or has no published weight.
    """
    weight = _pyramid_weight(pair, 'MGD', loss_weight)
    if mask_ratio is None:
        mask_ratio = 0.45 if pair.endswith('/faster_rcnn') else 0.65
    own = dict(type='LevelMGDLoss', mask_ratio=mask_ratio, loss_weight=weight)
    return dict(loss_mgd=own | _pyramid(pair, 'MGD') | kwargs)


def fgfi(
    pair: str,
    anchors: str | Mapping[str, Any] | None = None,
    loss_weight: float | None = None,
    **kwargs: Any,
) -> Losses:
    """FGFI on all levels of a detector's neck that the pair compares.

    Args:
        pair: Key of ``PAIRS``.
        anchors: By default those of the pair; see ``FGFILoss``.
        loss_weight: By default the published one, 0.01.
        **kwargs: Of ``FGFILoss``.

    Raises:
        UsageError: (a ValueError) If the pair is not one of detectors, or has no published weight.
    """
    weight = _pyramid_weight(pair, 'FGFI', loss_weight)
    own = dict(type='FGFILoss', anchors=pair if anchors is None else anchors, loss_weight=weight)
    return dict(loss_fgfi=own | _pyramid(pair, 'FGFI') | kwargs)


def gid(pair: str, loss_weight: float = 1.0, **kwargs: Any) -> Losses:
    """GID's feature and relation terms on ground-truth boxes, on all levels that the pair compares.

    Args:
        pair: Key of ``PAIRS``.
        loss_weight: Factor of both terms.
        **kwargs: Of ``GIDLoss``.

    Raises:
        UsageError: (a ValueError) If the pair is not one of detectors.
    """
    # written out: a default of the class that changes would not show in a config
    own = dict(type='GIDLoss', feature_weight=0.0005, relation_weight=40.0, loss_weight=loss_weight)
    return dict(loss_gid=own | _pyramid(pair, 'GID') | kwargs)


def agnl(pair: str, weights: str | Mapping[str, float] | None = None, **kwargs: Any) -> Losses:
    """AGNL on all levels of a detector's neck that the pair compares.

    Args:
        pair: Key of ``PAIRS``.
        weights: By default the published ones, ``'agnl_two_stage'`` for Faster R-CNN, else ``'agnl_one_stage'``.
        **kwargs: Of ``AGNLLoss``.

    Raises:
        UsageError: (a ValueError) If the pair is not one of detectors.
    """
    if weights is None:
        weights = 'agnl_two_stage' if pair.endswith('/faster_rcnn') else 'agnl_one_stage'
    return dict(loss_agnl=dict(type='AGNLLoss', weights=weights) | _pyramid(pair, 'AGNL') | kwargs)


def crosskd(pair: str, split: int = 3, **kwargs: Any) -> Losses:
    """CrossKD for a pair of RetinaNets or GFLs, with its published weights.

    Args:
        pair: Key of ``PAIRS``.
        split: Convolutions of the student's head before the teacher's goes on; 3 of 4 is published.
        **kwargs: Of ``CrossKDLoss``.

    Raises:
        UsageError: (a ValueError) If the pair is not one of detectors, or one with a head for regions.
    """
    _pyramid(pair, 'CrossKD')
    if pair.endswith('/faster_rcnn'):
        raise UsageError(
            f'CrossKD gives features to the dense head of the teacher, but {pair!r} has a head for regions; use a pair '
            'of RetinaNet or GFL.'
        )
    return dict(loss_crosskd=dict(type='CrossKDLoss', split=split, **kwargs))


def _pyramid(pair: str, method: str) -> dict[str, Any]:
    """Levels and channels of a pair of detectors."""
    row = find_pair(pair)
    if not row.levels:
        raise UsageError(
            f'{method} compares levels of a detector, but {pair!r} is a pair of classifiers.'
        )
    sizes = next(iter(row.stages.values()))
    return dict(
        levels=row.levels,
        student_channels=sizes.student_channels,
        teacher_channels=sizes.teacher_channels,
    )


def _pyramid_weight(pair: str, method: str, weight: float | None) -> float:
    if weight is not None:
        return weight
    published = PYRAMID_WEIGHTS[method]
    _pyramid(pair, method)
    detector = pair.rpartition('/')[2]
    if detector not in published:
        raise UsageError(
            f'{method} has published weights for {", ".join(published)}, but not for {detector!r}; give loss_weight.'
        )
    return published[detector]
