"""What dense heads of two stacks of convolutions make of features, in two halves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...errors import UsageError
from .distill_loss import at_least_float32

#: Last layers of (classification, boxes) by the kind of head.
LAST_LAYERS = {'RetinaHead': ('retina_cls', 'retina_reg'), 'GFLHead': ('gfl_cls', 'gfl_reg')}


class Branches(NamedTuple):
    """One level's values of the classification branch and of the box branch."""

    scores: Tensor
    boxes: Tensor


def kind_of(head: Any) -> str | None:
    """Which of :data:`LAST_LAYERS` a head is, or is derived from; None for others."""
    kinds = {kind.__name__ for kind in type(head).__mro__}
    return next((name for name in LAST_LAYERS if name in kinds), None)


def head_of(model: nn.Module, owner: str) -> Any:
    """The head of a detector, of which classification and boxes are two stacks of convolutions.

    Args:
        model: A single-stage detector.
        owner: The loss, the subject of the sentence.

    Raises:
        UsageError: (a ValueError) If it has no such head, or one that normalises over the batch.
    """
    head = getattr(model, 'bbox_head', None)
    if kind_of(head) is None:
        raise UsageError(
            f'{owner} needs a head of {" or ".join(LAST_LAYERS)}, but {type(model).__name__} has '
            f'{"none" if head is None else type(head).__name__}; use a pair of such detectors, or another loss.'
        )
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in head.modules()):
        raise UsageError(
            f'{owner} runs the convolutions of the head a second time, which would count every batch twice in its '
            'batch normalisation; give the head GroupNorm or no norm.'
        )
    return head


def first_half(head: Any, feature: Tensor, count: int) -> Branches:
    """What both branches have after ``count`` convolutions, before the activation of the last of them.

    Args:
        head: See :func:`head_of`.
        feature: ``[N, C, H, W]`` of the neck.
        count: Convolutions, 0 for the feature itself.
    """
    found = []
    for convs in (head.cls_convs, head.reg_convs):
        x = feature
        for place in range(count):
            last = place + 1 == count
            x = convs[place](x, activate=not last)
        found.append(x)
    return Branches(*found)


def second_half(head: Any, given: Branches, count: int, level: int) -> Branches:
    """Scores and boxes from what both branches have after ``count`` convolutions.

    Args:
        head: See :func:`head_of`.
        given: Of :func:`first_half`.
        count: Convolutions that are done.
        level: Place of the level, whose scale a GFL head has.

    Returns:
        Scores ``[N, anchors * classes, H, W]`` and boxes ``[N, anchors * (4 or 4 (n + 1)), H, W]``, as the head codes
        them.
    """
    kind = kind_of(head)
    found = []
    for x, convs, last in zip(
        given, (head.cls_convs, head.reg_convs), LAST_LAYERS[kind], strict=True
    ):
        if count:
            # not in place: the first half is still needed
            x = torch.relu(x)
        for conv in list(convs)[count:]:
            x = conv(x)
        found.append(getattr(head, last)(x))
    scores, boxes = found
    if kind == 'GFLHead':
        boxes = at_least_float32(head.scales[level](boxes))
    return Branches(scores, boxes)


def standardise_like(feature: Tensor, other: Tensor) -> Tensor:
    """The feature with the other's mean and deviation in every channel, over images and positions.

    Args:
        feature: ``[N, C, H, W]``.
        other: ``[N, C, H, W]``.
    """
    deviation, mean = _deviation_and_mean(feature)
    other_deviation, other_mean = _deviation_and_mean(other)
    return (feature - mean) / (deviation + 1e-6) * other_deviation + other_mean


def _deviation_and_mean(feature: Tensor) -> tuple[Tensor, Tensor]:
    # Bessel's correction of a single value would be a division by 0
    count = feature.numel() // feature.shape[1]
    return torch.std_mean(feature, dim=(0, 2, 3), keepdim=True, correction=int(count > 1))


def targets_of(
    head: Any, sizes: Sequence[tuple[int, int]], data_samples: Sequence[Any], device: Any
) -> tuple[list[Tensor], list[Tensor], float]:
    """Which anchors of the student's head count.

    Args:
        head: Of the student.
        sizes: (height, width) of every level.
        data_samples: N samples with boxes, labels and metainfo, as mmdet's heads take them.
        device: Of the features.

    Returns:
        By level anchors ``[N, A, 4]``, whether each counts ``[N, A]`` (0 for those that are ignored), and the number of
        positive ones.
    """
    metas = [sample.metainfo for sample in data_samples]
    anchors, valid = head.get_anchors(list(sizes), metas, device=device)
    counts = [level.shape[0] for level in anchors[0]]
    flat = torch.stack([torch.cat(list(levels)) for levels in anchors])
    found = head.get_targets(
        [list(levels) for levels in anchors],
        [list(levels) for levels in valid],
        [sample.gt_instances for sample in data_samples],
        metas,
        batch_gt_instances_ignore=[getattr(s, 'ignored_instances', None) for s in data_samples],
    )
    # labels, weights of the labels, ..., number of positives; GFL's head puts the anchors before these
    shift = 1 if kind_of(head) == 'GFLHead' else 0
    return (
        list(flat.split(counts, dim=1)),
        list(found[1 + shift]),
        max(float(found[4 + shift]), 1.0),
    )
