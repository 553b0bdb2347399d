"""Cells near boxes, against one intersection over union at a time."""

import torch

from dpk_mm.functional.anchor_masks import near_box_masks

STRIDES = {8: (8, 12), 16: (4, 6)}
RATIOS = (0.5, 1.0, 2.0)


def anchors():
    found = []
    for stride, (height, width) in STRIDES.items():
        level = torch.zeros(height, width, 3, 4)
        for y in range(height):
            for x in range(width):
                for a, ratio in enumerate(RATIOS):
                    h, w = 3 * stride * ratio**0.5, 3 * stride / ratio**0.5
                    centre = torch.tensor([x * stride, y * stride, x * stride, y * stride])
                    level[y, x, a] = centre + torch.tensor([-w, -h, w, h]) / 2
        found.append(level)
    return found


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def slow(boxes, levels, threshold):
    masks = [torch.zeros(level.shape[:2], dtype=torch.bool) for level in levels]
    for box in boxes:
        best = max(iou(a, box) for level in levels for a in level.view(-1, 4).tolist())
        for mask, level in zip(masks, levels, strict=True):
            for y, row in enumerate(level.tolist()):
                for x, cell in enumerate(row):
                    if any(iou(a, box) > threshold * best for a in cell):
                        mask[y, x] = True
    return masks


def test_masks_equal_a_slow_formula():
    generator = torch.Generator().manual_seed(3)
    low = torch.rand(20, 2, generator=generator) * torch.tensor([70.0, 40.0])  # two groups of boxes
    boxes = torch.cat([low, low + 3 + 25 * torch.rand(20, 2, generator=generator)], dim=1)
    levels = anchors()
    for some in (boxes[:1], boxes[:3], boxes):
        for threshold in (0.3, 0.5, 0.8):
            found = near_box_masks(some, levels, threshold)
            expected = slow(some.tolist(), levels, threshold)
            for mask, other in zip(found, expected, strict=True):
                assert torch.equal(mask, other)


def test_a_small_box_marks_no_cell_of_a_coarse_level():
    masks = near_box_masks(torch.tensor([[36.0, 20.0, 60.0, 44.0]]), anchors())
    assert masks[0].any() and not masks[1].any()
    y, x = masks[0].nonzero().float().mean(0).tolist()
    assert abs(8 * x - 48) < 8 and abs(8 * y - 32) < 8  # around its centre


def test_boxes_that_mark_nothing_and_corners_in_any_order():
    levels = anchors()
    box = torch.tensor([[36.0, 20.0, 60.0, 44.0]])
    nothing = torch.tensor([[5.0, 5.0, 5.0, 9.0], [float('nan'), 0.0, 9.0, 9.0]])
    alone = near_box_masks(box, levels)
    for mask, other in zip(
        near_box_masks(torch.cat([nothing, box[:, [2, 3, 0, 1]]]), levels), alone, strict=True
    ):
        assert torch.equal(mask, other)
    assert not any(mask.any() for mask in near_box_masks(nothing, levels))
    assert not any(mask.any() for mask in near_box_masks(box[:0], levels))
