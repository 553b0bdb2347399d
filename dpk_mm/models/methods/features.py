"""Methods on the features of classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import UsageError
from ..pairs import find_pair
from .losses import Losses


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
    loss_weight: float = 2.5,
    **kwargs: Any,
) -> Losses:
    """ICKD-C, for classifiers.

    Args:
        pair: Key of ``PAIRS``, whose channels it has.
        stages: Which of its stages; the last is published.
        before: As of :func:`fitnet`.
        loss_weight: 2.5 in the authors' command for CIFAR-100; their ``train_student.sh`` also has 4.
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
        loss_weight: 200 in the authors' code, beside KD of weight 0.9 and ``tau`` 4.
        **kwargs: Of ``AFDLoss``.

    Raises:
        UsageError: (a ValueError) If the pair is one of detectors, or has no such stage.
    """
    found = _stages(pair, stages, before)
    return dict(loss_afd=dict(type='AFDLoss', stages=found, loss_weight=loss_weight, **kwargs))


def mgd_channels(
    pair: str,
    stages: Sequence[str] = ('last',),
    before: Sequence[tuple[int, int]] = (),
    mask_ratio: float = 0.15,
    loss_weight: float = 7e-5,
    **kwargs: Any,
) -> Losses:
    """MGD, for classifiers: channels are masked, as in the authors' code; ``mgd`` is the one for detectors.

    Args:
        pair: Key of ``PAIRS``, whose channels it has.
        stages: Which of its stages; the last is published.
        before: As of :func:`fitnet`.
        mask_ratio: Share of the channels that is masked; 0.15 in the authors' configs.
        loss_weight: 7e-5 in the authors' configs for ImageNet, 1.2e-3 in that for CIFAR-100: the loss is a sum over
            the cells.
        **kwargs: Of ``LevelMGDLoss``.

    Raises:
        UsageError: (a ValueError) If the pair is one of detectors, has no such stage, or stages of two sizes.
    """
    found = _stages(pair, stages, before)[len(before) :]
    if any('scale' in stage for stage in found):
        raise UsageError(
            f'MGD compares maps of one size, but those of the student are half as large in the pair {pair!r}.'
        )
    levels = [
        dict(
            index=stage['index'],
            student_channels=stage['student_channels'],
            teacher_channels=stage['teacher_channels'],
        )
        for stage in found
    ]
    own = dict(type='LevelMGDLoss', mask_ratio=mask_ratio, masked='channels')
    return dict(loss_mgd=own | dict(levels=levels, loss_weight=loss_weight) | kwargs)


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
        UsageError: (a ValueError) If the pair is one of detectors, or has no such stage, or both ``stages`` and
            ``blocks`` are given.
    """
    if stages is not None and blocks is not None:
        raise UsageError(
            f'manifold() was given stages={tuple(stages)} and blocks={blocks}, which takes their place; give one of '
            'them.'
        )
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
