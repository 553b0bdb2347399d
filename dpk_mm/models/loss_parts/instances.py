"""Features of instances: what lies in each box, of the level that fits its size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

# An instance of 224 pixels is that of stride 16, as in the FPN paper (Eq. 1).
_PIXELS_PER_STRIDE = 14


def pool_instances(
    feats: Sequence[Sequence[Tensor]],
    boxes: Sequence[Tensor],
    image_shape: tuple[int, int],
    cells: int = 10,
) -> list[Tensor]:
    """Cuts every box out of the level that fits its size, by RoIAlign.

    Args:
        feats: For each side the features of the levels, ``[N, C, H, W]``; those of one level have one size.
        boxes: N tensors ``[G_i, 4]`` in pixels of the padded batch. Boxes without area, or with NaN, are left out.
        image_shape: (height, width) of the padded batch.
        cells: Side of the result.

    Returns:
        For each side ``[K, C, cells, cells]``, with K boxes in the order of levels and, within one, of images.
    """
    images = torch.cat([b.new_full((len(b), 1), i) for i, b in enumerate(boxes)])
    rois = torch.cat([images, torch.cat(list(boxes))], dim=1).float()
    area = (rois[:, 3] - rois[:, 1]).clamp(min=0) * (rois[:, 4] - rois[:, 2]).clamp(min=0)
    usable = torch.isfinite(rois).all(1) & (area > 0)
    rois, area = rois[usable], area[usable]

    # rounded down to a power of two, as the FPN does, and moved to the nearest stride that is there
    fitting = (area.sqrt() / _PIXELS_PER_STRIDE).log2().floor()
    strides = [image_shape[0] / feature.shape[2] for feature in feats[0]]
    distance = (fitting[:, None] - area.new_tensor(strides).log2().round()).abs()
    chosen = distance.argmin(1)

    pooled: list[list[Tensor]] = [[] for _ in feats]
    for i in range(len(feats[0])):
        own = rois[chosen == i]
        height, width = feats[0][i].shape[2:]
        scale = (width / image_shape[1], height / image_shape[0])
        own = own * own.new_tensor([1, *scale, *scale])
        for side, levels in enumerate(feats):
            feature = levels[i]
            cut = roi_align(feature, own.to(feature.dtype), cells, 1.0, 2, aligned=True)
            pooled[side].append(cut)
    return [torch.cat(levels) for levels in pooled]
