"""The cells of feature maps whose anchors are near a ground-truth box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# boxes whose overlaps with all anchors are held at once
_BOXES = 16


@torch.no_grad()
def near_box_masks(
    boxes: Tensor, anchors: Sequence[Tensor], threshold: float = 0.5
) -> list[Tensor]:
    """Marks the cells of which an anchor overlaps a box nearly as much as the best anchor of that box does.

    For every box, M is the largest intersection over union (IoU) that an anchor of any level has with it; a cell counts
    if one of its anchors has an IoU above ``threshold * M`` with any box.

    Args:
        boxes: ``[G, 4]``, x1, y1, x2, y2 in pixels, corners in any order. A box without area, or with NaN, marks no
            cell.
        anchors: For each level ``[H, W, A, 4]``, in the same pixels.
        threshold: psi in [0, 1].

    Returns:
        For each level ``[H, W]`` bool.

    Source: Wang et al. 2019, "Distilling Object Detectors with Fine-grained Feature Imitation", imitation
    region estimation, psi = 0.5. The paper has one feature map; here M is that of all levels, as otherwise
    a small box would mark cells of levels whose best anchor hardly touches it.
    """
    masks = [
        torch.zeros(level.shape[:2], dtype=torch.bool, device=level.device) for level in anchors
    ]
    for some in boxes.split(_BOXES):
        overlaps = [_iou(level.reshape(-1, 4), some) for level in anchors]  # [H W A, G]
        best = torch.stack([level.amax(0) for level in overlaps]).amax(0)
        for mask, overlap in zip(masks, overlaps, strict=True):
            near = (overlap > threshold * best).any(1)
            mask |= near.view(*mask.shape, -1).any(2)
    return masks


def _iou(anchors: Tensor, boxes: Tensor) -> Tensor:
    low = torch.minimum(boxes[:, :2], boxes[:, 2:]).to(anchors.dtype)
    high = torch.maximum(boxes[:, :2], boxes[:, 2:]).to(anchors.dtype)
    shared = anchors.new_ones(())
    for axis in (0, 1):
        inner = torch.minimum(anchors[:, None, 2 + axis], high[:, axis])
        inner = inner - torch.maximum(anchors[:, None, axis], low[:, axis])
        shared = shared * inner.clamp(min=0)
    own = (anchors[:, 2:] - anchors[:, :2]).prod(1)[:, None]
    return shared / (own + (high - low).prod(1) - shared)
