"""Foreground and background weights against painting every box by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_mm.functional import box_cells, foreground_background_masks


def paint(boxes, image_shape, feature_shape):
    """One image, one box after another, in float32 as tensors compute."""
    (img_h, img_w), (h, w) = image_shape, feature_shape
    foreground = np.zeros((h, w), dtype=np.float32)
    f = np.float32
    for box in boxes.tolist():
        if not all(math.isfinite(v) for v in box):
            continue
        left, right = sorted((f(box[0]), f(box[2])))
        top, bottom = sorted((f(box[1]), f(box[3])))
        if right < 0 or bottom < 0 or left >= img_w or top >= img_h:
            continue
        x1 = math.floor(max(left, f(0)) * f(w) / f(img_w))
        x2 = math.ceil(min(right, f(img_w)) * f(w) / f(img_w))
        y1 = math.floor(max(top, f(0)) * f(h) / f(img_h))
        y2 = math.ceil(min(bottom, f(img_h)) * f(h) / f(img_h))
        weight = f(1) / f((x2 - x1 + 1) * (y2 - y1 + 1))
        for row in range(y1, min(y2, h - 1) + 1):
            for column in range(x1, min(x2, w - 1) + 1):
                foreground[row, column] = max(foreground[row, column], weight)
    free = foreground == 0
    background = free / max(free.sum(), 1)
    return torch.from_numpy(foreground), torch.from_numpy(background.astype(np.float32))


def check(boxes, image_shape, feature_shape):
    foreground, background = foreground_background_masks(boxes, image_shape, feature_shape)
    assert foreground.dtype == background.dtype == torch.float32
    assert foreground.shape == background.shape == (len(boxes), *feature_shape)
    for i, b in enumerate(boxes):
        expected = paint(b, image_shape, feature_shape)
        torch.testing.assert_close(foreground[i], expected[0], rtol=1e-6, atol=0)
        torch.testing.assert_close(background[i], expected[1], rtol=1e-6, atol=0)
    assert not ((foreground > 0) & (background > 0)).any()
    assert ((foreground > 0) | (background > 0)).all()
    some = (background > 0).flatten(1).any(1)
    total = background.sum((1, 2))[some]
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-5)
    return foreground, background


def random_boxes(count, image_shape, seed, small=False):
    g = torch.Generator().manual_seed(seed)
    height, width = image_shape
    centre = torch.rand(count, 2, generator=g) * torch.tensor([width, height])
    size = torch.rand(count, 2, generator=g) ** 3 * torch.tensor([width, height])
    size = size * 0.15 if small else size
    return torch.cat([centre - size / 2, centre + size / 2], 1)


@pytest.mark.parametrize('count', [1, 2, 10, 51, 52, 53, 104, 105, 200])
@pytest.mark.parametrize('small', [True, False])
def test_a_padded_batch_of_images_with_different_sizes(count, small):
    # boxes of images of 96 x 160, 128 x 100 and 64 x 64 pixels, all padded to 128 x 160
    boxes = [
        random_boxes(count, (96, 160), count, small),
        random_boxes(max(count // 3, 1), (128, 100), count + 1, small),
        torch.zeros(0, 4),
        random_boxes(1, (64, 64), count + 2, small),
    ]
    check(boxes, (128, 160), (16, 20))


def test_the_weight_is_that_of_the_smallest_box_whatever_the_order():
    outer, inner = [0.0, 0.0, 60.0, 60.0], [16.0, 16.0, 32.0, 32.0]
    for order in ([outer, inner], [inner, outer]):
        foreground, background = check([torch.tensor(order)], (80, 80), (10, 10))
        assert foreground[0, 0, 0].item() == pytest.approx(1 / 81)  # cells 0..8
        assert foreground[0, 2, 4].item() == pytest.approx(1 / 9)  # cells 2..4
        assert foreground[0, 5, 5].item() == pytest.approx(1 / 81)
        assert foreground[0, 9, 9] == 0
        assert background[0, 9, 9].item() == pytest.approx(1 / 19)


def test_many_boxes_over_the_same_cell():
    # nested boxes, each smaller than the one before: every word of 52 bits is in use
    boxes = torch.stack([torch.tensor([0.0, 0.0, s, s]) for s in torch.arange(1, 161).tolist()])
    foreground, _ = check([boxes], (160, 160), (160, 160))
    assert foreground[0, 0, 0].item() == pytest.approx(1 / 4)
    assert foreground[0, 100, 3].item() == pytest.approx(1 / 101**2)


def test_no_box_at_all():
    foreground, background = check([torch.zeros(0, 4)] * 2, (64, 64), (4, 8))
    assert foreground.sum() == 0
    assert torch.equal(background, torch.full((2, 4, 8), 1 / 32))


def test_a_box_over_everything_leaves_no_background():
    foreground, background = check([torch.tensor([[0.0, 0.0, 64.0, 64.0]])], (64, 64), (8, 8))
    assert background.sum() == 0
    # both ends are counted, so a box that ends on the border counts one cell past it
    torch.testing.assert_close(foreground, torch.full((1, 8, 8), 1 / 81))


@pytest.mark.parametrize(
    ('box', 'covered'),
    [
        pytest.param([-50.0, 8.0, -10.0, 30.0], 0, id='left of the image'),
        pytest.param([64.0, 8.0, 90.0, 30.0], 0, id='right of the image'),
        pytest.param([8.0, -9.0, 30.0, -1.0], 0, id='above the image'),
        pytest.param([8.0, 70.0, 30.0, 90.0], 0, id='below the image'),
        pytest.param([math.nan, 8.0, 30.0, 30.0], 0, id='NaN'),
        pytest.param([8.0, 8.0, 30.0, math.nan], 0, id='NaN at the end'),
        pytest.param([8.0, 8.0, math.inf, 30.0], 0, id='infinite'),
        pytest.param([-20.0, -20.0, 12.0, 12.0], 9, id='cut by a corner'),
        pytest.param([30.0, 30.0, 8.0, 8.0], 16, id='both corners swapped'),
        pytest.param([8.0, 30.0, 30.0, 8.0], 16, id='rows swapped'),
        pytest.param([20.0, 20.0, 20.0, 20.0], 4, id='no area'),
        pytest.param([16.0, 16.0, 16.0, 16.0], 1, id='no area, on a corner of a cell'),
        pytest.param([20.0, 20.0, 21.0, 21.0], 4, id='one pixel'),
        pytest.param([63.0, 63.0, 64.0, 64.0], 1, id='the last pixel'),
    ],
)
def test_odd_boxes_alone_and_among_others(box, covered):
    foreground, _ = check([torch.tensor([box])], (64, 64), (8, 8))
    assert (foreground > 0).sum() == covered
    others = random_boxes(60, (64, 64), 3, small=True)
    mixed = torch.cat([others[:30], torch.tensor([box]), others[30:]])
    check([others, mixed, torch.tensor([box]), torch.zeros(0, 4)], (64, 64), (8, 8))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(
                *[st.floats(-40, 140, width=32) | st.integers(0, 12).map(lambda v: 8.0 * v)] * 4
            ),
            max_size=8,
        ),
        min_size=1,
        max_size=3,
    ),
    st.tuples(st.integers(20, 100), st.integers(20, 100)),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_any_boxes(batch, image_shape, feature_shape):
    check([torch.tensor(b).reshape(-1, 4) for b in batch], image_shape, feature_shape)


def test_cells_by_hand():
    boxes = torch.tensor([[9.0, 17.0, 31.0, 33.0], [0.0, 0.0, 64.0, 48.0], [70.0, 0.0, 80.0, 9.0]])
    cells = box_cells(boxes, (48, 64), (6, 8))
    assert cells[:2].tolist() == [[1, 2, 4, 5], [0, 0, 8, 6]]
    assert cells[2, 0] > cells[2, 2]


def test_the_shape_of_the_whole_batch_counts():
    box = [torch.tensor([[0.0, 0.0, 32.0, 32.0]])]
    narrow, _ = foreground_background_masks(box, (64, 64), (8, 8))
    wide, _ = foreground_background_masks(box, (64, 128), (8, 8))
    assert (narrow > 0).sum() == 25 and (wide > 0).sum() == 15


def test_half_precision_and_integer_boxes():
    boxes = [torch.tensor([[8, 8, 40, 24], [0, 0, 16, 16]])]
    expected = foreground_background_masks([boxes[0].float()], (64, 64), (8, 8))
    for dtype in (torch.int64, torch.float16, torch.bfloat16, torch.float64):
        found = foreground_background_masks([boxes[0].to(dtype)], (64, 64), (8, 8))
        assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_a_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r'boxes\[1\] must be \[G, 4\].*\(3, 5\)'):
        foreground_background_masks([torch.zeros(1, 4), torch.zeros(3, 5)], (64, 64), (8, 8))
