"""Boxes to foreground and background weights, for a whole batch at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Boxes whose coverage is packed into one integer. float64 holds 52 bits exactly, and its exponent
# then names the highest bit that is set.
_BITS = 52


def box_cells(
    boxes: Tensor, image_shape: tuple[int, int], feature_shape: tuple[int, int]
) -> Tensor:
    """The cells of a feature map that each box covers.

    Corners may come in any order. A box is clipped to the image; what lies outside of it covers no
    cell.

    Args:
        boxes: ``[G, 4]``, x1, y1, x2, y2 in pixels of the padded batch.
        image_shape: (height, width) of the padded batch in pixels (``batch_input_shape``).
        feature_shape: (H, W) of the feature map.

    Returns:
        ``[G, 4]`` float32: first column, first row, last column, last row, all inclusive. The last ones
        may be W or H, one past the map, for a box that ends on the border: FGD's area counts that cell,
        and so does this one. An empty range (first > last) stands for a box that covers nothing.

    Source: FGD, scale mask; authors' code: ``floor(x1 / img_w * W)``, ``ceil(x2 / img_w * W)``,
    both ends included, with ``img_w`` the width of the padded batch.
    """
    boxes = boxes.float()
    height, width = image_shape
    # Filled on the device: a copy from the host would be a synchronisation.
    size = torch.cat([boxes.new_full((1,), width), boxes.new_full((1,), height)])
    grid = torch.cat([boxes.new_full((1,), n) for n in reversed(feature_shape)])
    low = torch.minimum(boxes[:, :2], boxes[:, 2:])
    high = torch.maximum(boxes[:, :2], boxes[:, 2:])
    outside = ((high < 0) | (low >= size)).any(1) | ~torch.isfinite(boxes).all(1)
    # Multiplied first: x / size * grid misses a whole cell number by one rounding for every eleventh
    # coordinate that lies on the border of two cells, and its box then has a row or column too many.
    first = (low.clamp(min=0) * grid / size).floor()
    last = (torch.minimum(high, size) * grid / size).ceil()
    last = torch.where(outside.unsqueeze(1), first - 1, last)
    return torch.cat([first, last], dim=1)


def foreground_background_masks(
    boxes: Sequence[Tensor],
    image_shape: tuple[int, int],
    feature_shape: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Foreground and background weights of every cell: FGD's M * S and (1 - M) * S.

    A foreground cell has 1 / area of the smallest box that covers it, with the area in cells, so
    that small objects weigh as much as large ones; every background cell has 1 / (number of
    background cells of its image).

    No loop over boxes: boxes are sorted by area, and each row and each column of the map holds one
    bit for every box that covers it. The bits that a row and a column share are the boxes over that
    cell, and the highest bit is the smallest of them. Memory is ``N * H * W`` integers for every 52
    boxes of the fullest image.

    Args:
        boxes: N tensors ``[G_i, 4]`` (x1, y1, x2, y2), pixels of the padded batch. Boxes outside of the
            image, with unsorted corners, without area or with NaN are allowed; see :func:`box_cells`.
        image_shape: (height, width) of the padded batch, i.e. ``batch_input_shape``. The authors' code
            uses each image's own shape, which moves every box of a padded image.
        feature_shape: (H, W).

    Returns:
        Foreground and background, both ``[N, H, W]`` float32. In each cell exactly one of them is
        positive.

    Raises:
        ValueError: If a tensor is not ``[G, 4]``.

    Source: Eq. 8 (M and the scale mask S of FGD, which DPK's text leaves out).
    """
    height, width = feature_shape
    for i, b in enumerate(boxes):
        if b.ndim != 2 or b.shape[1] != 4:
            raise ValueError(
                f'boxes[{i}] must be [G, 4] (x1, y1, x2, y2), but its shape is {tuple(b.shape)}.'
            )
    device = boxes[0].device if len(boxes) else None
    counts = [b.shape[0] for b in boxes]
    most = max(counts, default=0)
    if most == 0:
        foreground = torch.zeros(len(boxes), height, width, device=device)
        return foreground, torch.full_like(foreground, 1 / (height * width))

    # Short images are filled up with boxes that cover nothing.
    filler = -2.0 * max(image_shape)
    padded = torch.nn.utils.rnn.pad_sequence(
        [b.float() for b in boxes], batch_first=True, padding_value=filler
    )
    cells = box_cells(padded.flatten(0, 1), image_shape, feature_shape).view(len(boxes), most, 4)
    x1, y1, x2, y2 = cells.unbind(-1)
    area = ((x2 - x1 + 1) * (y2 - y1 + 1)).clamp_min(1)
    order = area.argsort(dim=1, descending=True)
    x1, y1, x2, y2, area = (v.gather(1, order) for v in (x1, y1, x2, y2, area))

    column = torch.arange(width, device=device)
    row = torch.arange(height, device=device)
    in_column = (column >= x1.unsqueeze(-1)) & (column <= x2.unsqueeze(-1))  # [N, G, W]
    in_row = (row >= y1.unsqueeze(-1)) & (row <= y2.unsqueeze(-1))  # [N, G, H]

    weight = 1 / area
    foreground = weight.new_zeros(len(boxes), height * width)
    bit = torch.ones(_BITS, dtype=torch.int64, device=device) << torch.arange(_BITS, device=device)
    for start in range(0, most, _BITS):  # later words hold smaller boxes and overwrite
        word = slice(start, min(start + _BITS, most))
        bits = bit[: word.stop - start]
        columns = (in_column[:, word] * bits[:, None]).sum(1)  # [N, W]
        rows = (in_row[:, word] * bits[:, None]).sum(1)  # [N, H]
        cover = (rows.unsqueeze(2) & columns.unsqueeze(1)).flatten(1)  # [N, H * W]
        top = torch.frexp(cover.double()).exponent.long() - 1
        value = weight[:, word].gather(1, top.clamp_min(0))
        foreground = torch.where(cover > 0, value, foreground)

    background = (foreground == 0).float()
    background = background / background.sum(1, keepdim=True).clamp_min(1)
    shape = (len(boxes), height, width)
    return foreground.view(shape), background.view(shape)
