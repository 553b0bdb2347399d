"""The methods of our configs: ``distill_losses`` by one call, for any pair of :mod:`dpk_mm.models.pairs`.

A text config reads it after its ``_base_`` line, which names the pair::

    _base_ = '../_base_/pairs/coco_faster_rcnn_r152_r50.py'
    from dpk_mm.models.methods import dpk_fgd

    model = dict(distiller=dict(distill_losses=dpk_fgd('coco/faster_rcnn', 'dpk_two_stage_text')))

What they give is plain dicts: a config that inherits this one changes any number of them by its key.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..errors import UsageError, did_you_mean
from .pairs import dpk_transforms, find_pair

Losses = dict[str, dict[str, Any]]

STAGE_WEIGHTS: dict[str, dict[str, float]] = {
    # of the authors' CIFAR training; the paper's text weighs the stages alike
    'cifar_code': dict(second_last=0.6, last=1.0),
}
"""Factors of stages by name, as a code base has them."""

DKD_BETA: dict[str, float] = {
    'cifar100/resnet56_resnet20': 2.0,
    'cifar100/resnet110_resnet32': 2.0,
    'cifar100/vgg13_mobilenetv2': 6.0,
    'cifar100/vgg13_vgg8': 6.0,
    'cifar100/wrn40-2_wrn16-2': 6.0,
    'cifar100/wrn40-2_wrn40-1': 6.0,
}
"""``beta`` of DKD by pair, as mdistiller's configs have it; 8 for other pairs of CIFAR-100."""


def kd(tau: float = 1.0, loss_weight: float = 0.8, **kwargs: Any) -> Losses:
    """KD on the logits.

    Args:
        tau: Temperature; DPK has 1 on ImageNet and 4 on CIFAR-100.
        loss_weight: alpha in Eq. 3 of DPK.
        **kwargs: Of ``KDLoss``.
    """
    return dict(loss_kd=dict(type='KDLoss', tau=tau, loss_weight=loss_weight, **kwargs))


def kd_standardized(tau: float = 2.0, loss_weight: float = 9.0) -> Losses:
    """KD on standardised logits; its authors have 0.1 for the cross entropy beside it.

    Args:
        tau: Temperature of CIFAR-100.
        loss_weight: Factor of the loss.
    """
    return kd(tau, loss_weight, standardize=True)


def dkd(
    pair: str | None = None,
    tau: float = 4.0,
    alpha: float = 1.0,
    beta: float | None = None,
    warmup: int = 20,
    **kwargs: Any,
) -> Losses:
    """DKD with the settings of CIFAR-100; ImageNet has ``tau=1.0, beta=0.5, warmup=1``.

    Args:
        pair: A key of ``PAIRS``, for ``beta``.
        tau: Temperature.
        alpha: Factor of the target class's term.
        beta: Factor of the other classes' term; by default that of the pair in :data:`DKD_BETA`, else 8.
        warmup: Passes over the training data in which the factor of the loss grows to 1.
        **kwargs: Of ``DecoupledKDLoss``.

    Raises:
        UsageError: (a ValueError) If there is no such pair.
    """
    if pair is not None:
        find_pair(pair)
    if beta is None:
        beta = DKD_BETA.get(pair or '', 8.0)
    settings = dict(tau=tau, alpha=alpha, beta=beta, warmup=warmup, **kwargs)
    return dict(loss_dkd=dict(type='DecoupledKDLoss', **settings))


def nkd(tau: float = 1.0, gamma: float = 1.5, **kwargs: Any) -> Losses:
    """NKD with the settings of ImageNet; CIFAR-100 has ``tau=3.0, gamma=3.5``.

    Args:
        tau: Temperature of the other classes.
        gamma: Factor of the other classes' term.
        **kwargs: Of ``NKDLoss``.
    """
    return dict(loss_nkd=dict(type='NKDLoss', tau=tau, gamma=gamma, **kwargs))


def dist(tau: float = 1.0, beta: float = 2.0, gamma: float = 2.0, **kwargs: Any) -> Losses:
    """DIST with the settings of ImageNet; CIFAR-100 has ``tau=4.0``.

    Args:
        tau: Temperature.
        beta: Factor of the relation within an image.
        gamma: Factor of the relation within a class.
        **kwargs: Of ``DISTKDLoss``.
    """
    settings = dict(tau=tau, beta=beta, gamma=gamma, **kwargs)
    return dict(loss_dist=dict(type='DISTKDLoss', **settings))


def hard(loss_weight: float = 0.5) -> Losses:
    """Hard distillation; DeiT has 0.5 for the cross entropy beside it.

    Args:
        loss_weight: Factor of the loss.
    """
    return dict(loss_hard=dict(type='HardDistillLoss', loss_weight=loss_weight))


def pkt(loss_weight: float = 30000.0) -> Losses:
    """PKT on the record ``embedding``.

    Args:
        loss_weight: Factor of the loss, that of public codes.
    """
    return dict(loss_pkt=dict(type='PKTLoss', loss_weight=loss_weight))


def sp(index: int | Sequence[int] = -1, loss_weight: float = 3000.0) -> Losses:
    """SP on the record ``feats``.

    Args:
        index: Places of the features; the last one by default.
        loss_weight: Factor of the loss, that of public codes.
    """
    return dict(loss_sp=dict(type='SPLoss', index=index, loss_weight=loss_weight))


def cc(
    student_channels: int, teacher_channels: int, loss_weight: float = 0.02, **kwargs: Any
) -> Losses:
    """CC on the record ``embedding``, as RepDistiller has it.

    Args:
        student_channels: Width of the student's embedding.
        teacher_channels: Width of the teacher's.
        loss_weight: Factor of the loss, that of RepDistiller.
        **kwargs: Of ``CCLoss``, such as ``mode='paper'``.
    """
    widths = dict(student_channels=student_channels, teacher_channels=teacher_channels)
    return dict(loss_cc=dict(type='CCLoss', loss_weight=loss_weight, **widths, **kwargs))


def rkd(distance: float = 25.0, angle: float = 50.0, **kwargs: Any) -> Losses:
    """RKD on the record ``embedding``.

    Args:
        distance: Factor of the distances.
        angle: Factor of the angles.
        **kwargs: Of ``RKDLoss``.
    """
    return dict(loss_rkd=dict(type='RKDLoss', distance=distance, angle=angle, **kwargs))


def dpk(
    pair: str,
    stages: Sequence[str] | None = None,
    loss_weight: float = 0.2,
    stage_weights: str | Mapping[str, float] | None = None,
    **changes: Any,
) -> Losses:
    """DPK with the mean squared error (Eq. 4), for classifiers.

    Args:
        pair: Key of ``PAIRS``.
        stages: Which of its stages; all by default.
        loss_weight: beta in Eq. 3.
        stage_weights: Factors of stages by name, 1 for the others, or the name of a set of :data:`STAGE_WEIGHTS`.
        **changes: Arguments of every stage, in place of the pair's, such as ``encoder_depth=1``.

    Raises:
        UsageError: (a ValueError) If the pair has no such stage, or ``stage_weights`` names no set.
    """
    transforms = {name: stage | changes for name, stage in dpk_transforms(pair, stages).items()}
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
                f'{did_you_mean(weights, STAGE_WEIGHTS)}'
            )
        return STAGE_WEIGHTS[weights]
    for name in weights or ():
        if name not in stages:
            raise UsageError(
                f'stage_weights names {name!r}, but the stages are {", ".join(stages)}'
                f'{did_you_mean(name, stages)}'
            )
    return weights or {}


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


def dpk_fgd(
    pair: str,
    weights: str | Mapping[str, float],
    stages: Sequence[str] | None = None,
    name: str = 'loss_dpk',
) -> Losses:
    """DPK with FGD as its criterion (Eq. 9): FGD sees all levels, those of ``stages`` as hybrid features.

    Args:
        pair: Key of ``PAIRS``.
        weights: As of :func:`fgd`.
        stages: Which of the pair's stages; all by default.
        name: The loss's key.

    Raises:
        UsageError: (a ValueError) If the pair is not one of detectors, or has no such stage.
    """
    criterion = fgd(pair, weights)['loss_fgd']
    return {
        name: dict(type='DPKLoss', transforms=dpk_transforms(pair, stages), criterion=criterion)
    }


# by the detector that a pair's name ends with
_PYRAMID_WEIGHTS: dict[str, dict[str, float]] = {
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
    own = dict(type='GIDLoss', loss_weight=loss_weight)
    return dict(loss_gid=own | _pyramid(pair, 'GID') | kwargs)


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
    published = _PYRAMID_WEIGHTS[method]
    _pyramid(pair, method)
    detector = pair.rpartition('/')[2]
    if detector not in published:
        raise UsageError(
            f'{method} has published weights for {", ".join(published)}, but not for {detector!r}; give loss_weight.'
        )
    return published[detector]


def _stages(
    pair: str, names: Sequence[str] | None, before: Sequence[tuple[int, int]], channels: bool = True
) -> list[dict[str, Any]]:
    """The pair's stages as the losses of classifiers' features take them."""
    row = find_pair(pair)
    if row.levels:
        raise UsageError(f'{pair!r} is a pair of detectors, but this method compares classifiers.')
    for name in names or ():
        if name not in row.stages:
            raise UsageError(
                f'The pair {pair!r} has no stage {name!r}; choose from {", ".join(row.stages)}.'
            )
    found = [
        dict(index=place, student_channels=own, teacher_channels=given)
        for place, (own, given) in enumerate(before)
    ]
    for place, (name, sizes) in enumerate(row.stages.items()):
        stage = dict(
            index=len(before) + row.index.get(name, place),
            student_channels=sizes.student_channels,
            teacher_channels=sizes.teacher_channels,
        )
        if row.resize:
            stage['scale'] = 0.5
        if names is None or name in names:
            found.append(stage)
    if not channels:
        for stage in found:
            del stage['student_channels'], stage['teacher_channels']
    return found


def fitnet(
    pair: str,
    stages: Sequence[str] = ('second_last',),
    before: Sequence[tuple[int, int]] = (),
    loss_weight: float = 100.0,
    **kwargs: Any,
) -> Losses:
    """FitNets, for classifiers: the hint of one stage.

    Args:
        pair: Key of ``PAIRS``, whose channels it has.
        stages: Which of its stages; the second of three is published.
        before: (student's, teacher's) channels of the stages that the records hold before the pair's.
        loss_weight: 100 in CRD's comparison and mdistiller.
        **kwargs: Of ``FitNetLoss``.

    Raises:
        UsageError: (a ValueError) If the pair is one of detectors, or has no such stage.
    """
    found = _stages(pair, stages, before)[len(before) :]
    return dict(
        loss_fitnet=dict(type='FitNetLoss', stages=found, loss_weight=loss_weight, **kwargs)
    )


def at(
    pair: str,
    stages: Sequence[str] | None = None,
    before: Sequence[tuple[int, int]] = (),
    loss_weight: float = 1000.0,
    **kwargs: Any,
) -> Losses:
    """AT, for classifiers.

    Args:
        pair: Key of ``PAIRS``.
        stages: Which of its stages; all by default.
        before: As of :func:`fitnet`; they are compared, too, since all stages but the stem are published.
        loss_weight: 1000 in CRD's comparison, mdistiller and torchdistill.
        **kwargs: Of ``AttentionTransferLoss``.

    Raises:
        UsageError: (a ValueError) If the pair is one of detectors, or has no such stage.
    """
    found = _stages(pair, stages, before, channels=False)
    return dict(
        loss_at=dict(type='AttentionTransferLoss', stages=found, loss_weight=loss_weight, **kwargs)
    )


def ab(
    pair: str,
    stages: Sequence[str] | None = None,
    before: Sequence[tuple[int, int]] = (),
    loss_weight: float = 1.0,
    **kwargs: Any,
) -> Losses:
    """AB, the initialisation of a classifier; the records are those before the ReLU.

    Args:
        pair: Key of ``PAIRS``, whose channels it has.
        stages: Which of its stages; all by default.
        before: As of :func:`at`.
        loss_weight: 1 in the authors' code.
        **kwargs: Of ``ActivationBoundaryLoss``.

    Raises:
        UsageError: (a ValueError) If the pair is one of detectors, or has no such stage.
    """
    found = _stages(pair, stages, before)
    return dict(
        loss_ab=dict(type='ActivationBoundaryLoss', stages=found, loss_weight=loss_weight, **kwargs)
    )


def ft(
    pair: str,
    stages: Sequence[str] = ('last',),
    before: Sequence[tuple[int, int]] = (),
    loss_weight: float = 200.0,
    **kwargs: Any,
) -> Losses:
    """FT, for classifiers.

    Args:
        pair: Key of ``PAIRS``, whose channels it has.
        stages: Which of its stages, one; the last is published.
        before: As of :func:`fitnet`.
        loss_weight: 200 in CRD's comparison, whose ``mode`` is ``'code'``.
        **kwargs: Of ``FactorTransferLoss``, such as ``paraphraser_ckpt``.

    Raises:
        UsageError: (a ValueError) If the pair is one of detectors, or has no such stage.
    """
    found = _stages(pair, stages, before)[len(before) :]
    kwargs.setdefault('mode', 'code')
    return dict(
        loss_ft=dict(type='FactorTransferLoss', stages=found, loss_weight=loss_weight, **kwargs)
    )


def vid(
    pair: str,
    stages: Sequence[str] | None = None,
    before: Sequence[tuple[int, int]] = (),
    loss_weight: float = 1.0,
    **kwargs: Any,
) -> Losses:
    """VID, for classifiers.

    Args:
        pair: Key of ``PAIRS``, whose channels it has.
        stages: Which of its stages; all by default.
        before: As of :func:`at`.
        loss_weight: 1 in CRD's comparison and mdistiller.
        **kwargs: Of ``VIDLoss``.

    Raises:
        UsageError: (a ValueError) If the pair is one of detectors, or has no such stage.
    """
    found = _stages(pair, stages, before)
    return dict(loss_vid=dict(type='VIDLoss', stages=found, loss_weight=loss_weight, **kwargs))


def ofd(
    pair: str,
    teacher_bns: Sequence[str] | None = None,
    stages: Sequence[str] | None = None,
    before: Sequence[tuple[int, int]] = (),
    loss_weight: float = 1e-3,
) -> Losses:
    """OFD, for classifiers; the records are those before the ReLU.

    Args:
        pair: Key of ``PAIRS``, whose channels it has.
        teacher_bns: Names of the teacher's last batch normalisations of the stages, shallow first; without, the margins
            are those of the batch.
        stages: Which of its stages; all by default.
        before: As of :func:`at`.
        loss_weight: 1e-3 on CIFAR, 1e-4 on ImageNet in the authors' code.

    Raises:
        UsageError: (a ValueError) If the pair is one of detectors, has no such stage, or not one name for each.
    """
    found = _stages(pair, stages, before)
    if teacher_bns is not None:
        if len(teacher_bns) != len(found):
            raise UsageError(
                f'teacher_bns of ofd() has {len(teacher_bns)} names, but {len(found)} stages are compared; give one '
                'for each, shallow first.'
            )
        for stage, name in zip(found, teacher_bns, strict=True):
            stage['teacher_bn'] = name
    return dict(loss_ofd=dict(type='OverhaulLoss', stages=found, loss_weight=loss_weight))


def reviewkd(
    pair: str,
    stages: Sequence[str] | None = None,
    before: Sequence[tuple[int, int]] = (),
    pooled_index: int | None = -1,
    pooled_channels: tuple[int, int] | None = None,
    warmup: int = 20,
    loss_weight: float = 5.0,
    **kwargs: Any,
) -> Losses:
    """ReviewKD, for classifiers.

    Args:
        pair: Key of ``PAIRS``, whose channels it has.
        stages: Which of its stages; all by default.
        before: As of :func:`at`.
        pooled_index: Place of what the classifiers read in the records, which is pooled; None leaves it out.
        pooled_channels: (student's, teacher's) channels of it; those of the last stage by default.
        warmup: Passes over the training data until the loss has its weight, 20 in the authors' code.
        loss_weight: 0.6 (ResNet-20), 1 (ResNet-32), 5 (ResNet-8x4, WRNs) or 8 (ShuffleNetV2) in the authors' scripts.
        **kwargs: Of ``ReviewKDLoss``.

    Raises:
        UsageError: (a ValueError) If the pair is one of detectors, or has no such stage.
    """
    found = _stages(pair, stages, before)
    if pooled_index is not None:
        last = dict(found[-1], index=pooled_index, pooled=True)
        if pooled_channels is not None:
            last['student_channels'], last['teacher_channels'] = pooled_channels
        found.append(last)
    return dict(
        loss_reviewkd=dict(
            type='ReviewKDLoss', stages=found, warmup=warmup, loss_weight=loss_weight, **kwargs
        )
    )


def ickd(
    pair: str,
    stages: Sequence[str] = ('last',),
    before: Sequence[tuple[int, int]] = (),
    loss_weight: float = 4.0,
    **kwargs: Any,
) -> Losses:
    """ICKD-C, for classifiers.

    Args:
        pair: Key of ``PAIRS``, whose channels it has.
        stages: Which of its stages; the last is published.
        before: As of :func:`fitnet`.
        loss_weight: 4 in the authors' CIFAR code.
        **kwargs: Of ``ICKDLoss``.

    Raises:
        UsageError: (a ValueError) If the pair is one of detectors, or has no such stage.
    """
    found = _stages(pair, stages, before)[len(before) :]
    return dict(loss_ickd=dict(type='ICKDLoss', stages=found, loss_weight=loss_weight, **kwargs))


def afd(
    pair: str,
    stages: Sequence[str] | None = None,
    before: Sequence[tuple[int, int]] = (),
    loss_weight: float = 200.0,
    **kwargs: Any,
) -> Losses:
    """SAD (AFD), for classifiers.

    Args:
        pair: Key of ``PAIRS``, whose channels it has.
        stages: Which of its stages; all by default. The outputs of all residual blocks are published.
        before: As of :func:`at`.
        loss_weight: 200 in the authors' command.
        **kwargs: Of ``AFDLoss``.

    Raises:
        UsageError: (a ValueError) If the pair is one of detectors, or has no such stage.
    """
    found = _stages(pair, stages, before)
    return dict(loss_afd=dict(type='AFDLoss', stages=found, loss_weight=loss_weight, **kwargs))


def crd(
    pair: str,
    num_images: int,
    channels: tuple[int, int] | None = None,
    loss_weight: float = 0.8,
    **kwargs: Any,
) -> Losses:
    """CRD, for classifiers: what they read, the last of the records, pooled.

    Args:
        pair: Key of ``PAIRS``, whose channels it has.
        num_images: Images of the training set.
        channels: (student's, teacher's) channels of what the classifiers read; those of the last stage by default.
        loss_weight: 0.8 in the authors' code.
        **kwargs: Of ``ContrastiveLoss``.

    Raises:
        UsageError: (a ValueError) If the pair is one of detectors.
    """
    last = _stages(pair, None, ())[-1]
    own, given = channels or (last['student_channels'], last['teacher_channels'])
    widths = dict(student_channels=own, teacher_channels=given)
    return dict(
        loss_crd=dict(
            type='ContrastiveLoss',
            num_images=num_images,
            loss_weight=loss_weight,
            **widths,
            **kwargs,
        )
    )


def tofd(
    pair: str,
    num_classes: int,
    stages: Sequence[str] | None = None,
    before: Sequence[tuple[int, int]] = (),
    loss_weight: float = 1.0,
    **kwargs: Any,
) -> Losses:
    """TOFD, for classifiers.

    Args:
        pair: Key of ``PAIRS``, whose channels it has.
        num_classes: Classes of the labels.
        stages: Which of its stages, two or more; all by default.
        before: As of :func:`at`.
        loss_weight: 1 in the authors' code, with its alpha of 0.05 and beta of 0.03.
        **kwargs: Of ``TOFDLoss``.

    Raises:
        UsageError: (a ValueError) If the pair is one of detectors, or has no such stage.
    """
    found = _stages(pair, stages, before)
    return dict(
        loss_tofd=dict(
            type='TOFDLoss',
            stages=found,
            num_classes=num_classes,
            loss_weight=loss_weight,
            **kwargs,
        )
    )


def manifold(
    pair: str,
    stages: Sequence[str] | None = None,
    blocks: int | None = None,
    loss_weight: float = 1.0,
    **kwargs: Any,
) -> Losses:
    """Manifold distillation, for transformers.

    Args:
        pair: Key of ``PAIRS``, whose extra tokens it has.
        stages: Which of its stages; all by default.
        blocks: Number of recorded blocks, all of which are compared, in place of the pair's stages. Published: the
            first four and the last four.
        loss_weight: 1 in the authors' code, beside 4, 0.1 and 0.2 of the three terms.
        **kwargs: Of ``ManifoldLoss``.

    Raises:
        UsageError: (a ValueError) If the pair is one of detectors, or has no such stage.
    """
    row = find_pair(pair)
    tokens = dict(
        student_extra_tokens=row.student_extra_tokens, teacher_extra_tokens=row.teacher_extra_tokens
    )
    indices = [stage['index'] for stage in _stages(pair, stages, ())]
    if blocks is not None:
        indices = [*range(blocks)]
    found = [
        dict(index=index, **{key: count for key, count in tokens.items() if count})
        for index in indices
    ]
    return dict(
        loss_manifold=dict(type='ManifoldLoss', stages=found, loss_weight=loss_weight, **kwargs)
    )
