"""Non-maximum suppression, hard and soft."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor

from .precision import widen

_NAIVE, _LINEAR, _GAUSSIAN = range(3)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Hard NMS: drops each box whose IoU with a better kept one exceeds the threshold.

    Args:
        boxes: Boxes ``(x1, y1, x2, y2)`` in pixels, ``[N, 4]``.
        scores: Scores, ``[N]``.
        iou_threshold: In ``[0, 1]``.
        offset: 0, or 1 where ``x2`` and ``y2`` are the last pixels inside, so that a width is
            ``x2 - x1 + 1``.

    Returns:
        Indices of the kept boxes by descending score, int64, ``[K]``.
    """
    boxes, scores = widen(boxes, scores)
    if offset:
        # Moving the far corner by the offset gives the same widths, heights and intersections.
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torchvision.ops.nms(boxes, scores, iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Soft-NMS (Bodla et al., 2017): lowers the scores of overlapping boxes, drops none outright.

    Among boxes of equal score the order is that of mmcv's loop, which moves the last box into the
    place of a discarded one. Boxes without area overlap with nothing; in mmcv's gaussian method
    their score becomes NaN.

    Args:
        boxes: Boxes ``(x1, y1, x2, y2)`` in pixels, ``[N, 4]``.
        scores: Scores, ``[N]``.
        dets: ``[N, 5]``; the first ``K`` rows receive the kept boxes and their lowered scores.
        iou_threshold: Overlap from which on the naive and linear methods act.
        sigma: Width of the gaussian, its weight being ``exp(-iou^2 / sigma)``.
        min_score: A box whose score falls below is discarded.
        method: 0 naive (score 0), 1 linear (``1 - iou``), 2 gaussian.
        offset: As in :func:`nms`.

    Returns:
        Indices of the kept boxes by descending lowered score, int64, ``[K]``.

    Raises:
        ValueError: If ``method`` is unknown.
    """
    if method not in (_NAIVE, _LINEAR, _GAUSSIAN):
        raise ValueError(f'soft-NMS method must be 0, 1 or 2, but is {method!r}.')
    boxes, scores = widen(boxes, scores)
    inds = torch.arange(len(boxes), device=boxes.device)
    areas = (boxes[:, 2] - boxes[:, 0] + offset) * (boxes[:, 3] - boxes[:, 1] + offset)
    # One row per box: x1, y1, x2, y2, score, area. The first ``count`` rows are still candidates.
    rows = torch.cat([boxes, scores[:, None], areas[:, None]], dim=1)
    count = len(rows)
    rank = 0
    while rank < count:
        best = rank + int(rows[rank:count, 4].argmax())
        rows[[rank, best]] = rows[[best, rank]]
        inds[[rank, best]] = inds[[best, rank]]
        rank += 1
        rest = rows[rank:count]
        rest[:, 4] *= _decay(_overlap(rows[rank - 1], rest, offset), iou_threshold, sigma, method)

        keep = rest[:, 4] >= min_score
        kept = int(keep.sum())
        holes = rank + (~keep[:kept]).nonzero()[:, 0]
        movers = rank + kept + keep[kept:].nonzero()[:, 0].flip(0)
        rows[holes] = rows[movers]
        inds[holes] = inds[movers]
        count = rank + kept
    dets[:count] = rows[:count, :5]
    return inds[:count]


def _overlap(box: Tensor, others: Tensor, offset: int) -> Tensor:
    """IoU ``[M]`` of one row with ``[M, 6]`` others; 0 where both are without area."""
    top_left = torch.maximum(box[:2], others[:, :2])
    bottom_right = torch.minimum(box[2:4], others[:, 2:4])
    intersection = (bottom_right - top_left + offset).clamp(min=0).prod(dim=1)
    return (intersection / (box[5] + others[:, 5] - intersection)).nan_to_num(nan=0.0)


def _decay(iou: Tensor, iou_threshold: float, sigma: float, method: int) -> Tensor:
    if method == _GAUSSIAN:
        return torch.exp(-(iou**2) / sigma)
    lowered = 1 - iou if method == _LINEAR else torch.zeros_like(iou)
    return torch.where(iou >= iou_threshold, lowered, torch.ones_like(iou))
