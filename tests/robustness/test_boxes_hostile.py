"""Boxes that annotation files really hold: none, hundreds, without area, outside, unsorted, not a number.

Every case is compared by value with painting one box after another in exact fractions: a cell belongs to a box from
``floor(x1 * W / width)`` to ``ceil(x2 * W / width)``, both included, and weighs 1 / (cells of the smallest box there).

Survived: any number of boxes, any finite coordinates, NaN and infinite ones (such a box covers nothing), every dtype
that holds the coordinate, tensors and mmdet's box classes. Ignored instances (``ignored_instances``, crowds) are not
foreground: FGD's masks know foreground and background only, so their area is background, as in the authors' code.
Not survived, by intent: boxes that are not four numbers, which end in a sentence.
"""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

import dpk_mm  # noqa: F401

# isort: split
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData

from dpk_mm.functional import foreground_background_masks
from dpk_mm.models.losses import FGDLoss

IMAGE = (96, 128)  # height, width of the padded batch
MAPS = [(12, 16), (7, 5), (3, 1), (1, 1)]


def paint(boxes, feature_shape, image_shape=IMAGE):
    """One image [H, W] twice, exactly: fractions until the very end."""
    (height, width), (rows, columns) = image_shape, feature_shape
    smallest = [[0] * columns for _ in range(rows)]
    for box in boxes:
        if not all(math.isfinite(v) for v in box):
            continue
        left, right = sorted(Fraction(v) for v in (box[0], box[2]))
        top, bottom = sorted(Fraction(v) for v in (box[1], box[3]))
        if right < 0 or bottom < 0 or left >= width or top >= height:
            continue
        x1 = math.floor(max(left, Fraction(0)) * columns / width)
        x2 = math.ceil(min(right, Fraction(width)) * columns / width)
        y1 = math.floor(max(top, Fraction(0)) * rows / height)
        y2 = math.ceil(min(bottom, Fraction(height)) * rows / height)
        area = (x2 - x1 + 1) * (y2 - y1 + 1)
        for y in range(y1, min(y2, rows - 1) + 1):
            for x in range(x1, min(x2, columns - 1) + 1):
                smallest[y][x] = min(smallest[y][x] or area, area)
    area = torch.tensor(smallest, dtype=torch.float64)
    foreground = torch.where(area > 0, 1 / area.clamp_min(1), torch.zeros_like(area))
    free = (area == 0).double()
    return foreground, free / max(free.sum().item(), 1)


def check(batch, feature_shape, image_shape=IMAGE):
    foreground, background = foreground_background_masks(batch, image_shape, feature_shape)
    assert foreground.shape == background.shape == (len(batch), *feature_shape)
    assert foreground.dtype == background.dtype == torch.float32
    for i, boxes in enumerate(batch):
        expected = paint(boxes.tolist(), feature_shape, image_shape)
        torch.testing.assert_close(foreground[i].double(), expected[0], rtol=1e-6, atol=0)
        torch.testing.assert_close(background[i].double(), expected[1], rtol=1e-6, atol=0)
    return foreground, background


def quarter_boxes(count, seed, low=-20, high=150):
    """Corners in any order, on quarters of a pixel so that float16 holds them."""
    g = torch.Generator().manual_seed(seed)
    return torch.randint(4 * low, 4 * high, (count, 4), generator=g) / 4


HOSTILE = {
    'no area': [20.0, 20.0, 20.0, 20.0],
    'no width': [20.0, 8.0, 20.0, 60.0],
    'no height': [8.0, 20.0, 60.0, 20.0],
    'no area, at the origin': [0.0, 0.0, 0.0, 0.0],
    'no area, at the far corner': [128.0, 96.0, 128.0, 96.0],
    'one pixel': [20.0, 20.0, 21.0, 21.0],
    'a thousandth of a pixel': [20.0, 20.0, 20.001, 20.001],
    'the last pixel': [127.0, 95.0, 128.0, 96.0],
    'the whole image': [0.0, 0.0, 128.0, 96.0],
    'far over every border': [-1e4, -1e4, 1e4, 1e4],
    'left of the image': [-50.0, 8.0, -1.0, 30.0],
    'right of the image': [128.0, 8.0, 200.0, 30.0],
    'above the image': [8.0, -9.0, 30.0, -1.0],
    'below the image': [8.0, 96.0, 30.0, 120.0],
    'touching from the left': [-50.0, 8.0, 0.0, 30.0],
    'cut by a corner': [-20.0, -20.0, 12.0, 12.0],
    'columns swapped': [60.0, 8.0, 10.0, 30.0],
    'rows swapped': [10.0, 30.0, 60.0, 8.0],
    'both swapped': [60.0, 30.0, 10.0, 8.0],
    'both swapped and outside': [-10.0, -10.0, -60.0, -30.0],
    'huge': [-1e30, -1e30, 1e30, 1e30],
    'huge and outside': [1e30, 1e30, 2e30, 2e30],
    'beyond float32 when multiplied': [10.0, 10.0, 3e38, 3e38],
    'tiny': [1e-30, 1e-30, 2e-30, 2e-30],
    'NaN': [math.nan, 8.0, 30.0, 30.0],
    'all NaN': [math.nan] * 4,
    'inf': [8.0, 8.0, math.inf, 30.0],
    '-inf': [-math.inf, 8.0, 60.0, 30.0],
    'from -inf to inf': [-math.inf, -math.inf, math.inf, math.inf],
}


@pytest.mark.parametrize('feature_shape', MAPS)
@pytest.mark.parametrize('name', HOSTILE)
def test_a_hostile_box_alone_and_among_others(name, feature_shape):
    box = torch.tensor([HOSTILE[name]])
    others = quarter_boxes(60, seed=1)
    mixed = torch.cat([others[:30], box, others[30:]])
    check([box], feature_shape)
    check([others, mixed, box, torch.zeros(0, 4)], feature_shape)


@pytest.mark.parametrize('feature_shape', MAPS)
@pytest.mark.parametrize('seed', range(5))
def test_500_boxes_in_one_image_and_few_in_the_others(seed, feature_shape):
    batch = [
        quarter_boxes(count, seed=10 * seed + i) for i, count in enumerate((500, 0, 1, 52, 53))
    ]
    check(batch, feature_shape)


def test_500_times_the_same_box_and_500_nested_ones():
    same = torch.tensor([[10.0, 10.0, 50.0, 40.0]]).repeat(500, 1)
    side = torch.arange(1, 501).view(-1, 1) / 5.5
    nested = torch.cat([torch.zeros(500, 2), side, side], 1)
    check([same, nested, nested.flip(0)], (12, 16))
    check([same, nested, nested.flip(0)], (96, 128))


def test_every_border_between_two_cells_is_met_exactly():
    """x / width * W in float32 misses every eleventh of these, and the box gets a column too many."""
    for columns, stride in ((100, 8), (168, 8), (29, 4), (83, 16)):
        width = columns * stride
        start = torch.arange(columns - 1) * float(stride)
        boxes = torch.stack([start, start * 0, start + stride, start * 0 + 8], 1)
        batch = [box.view(1, 4) for box in boxes]
        foreground, _ = foreground_background_masks(batch, (64, width), (8, columns))
        # cells k to k + 1 of rows 0 to 1
        expected = torch.zeros(columns - 1, 8, columns)
        place = torch.arange(columns - 1)
        for column in (place, place + 1):
            expected[place, 0, column] = expected[place, 1, column] = 1 / 4
        assert torch.equal(foreground, expected)


@pytest.mark.parametrize('images', [1, 2, 3, 8])
@pytest.mark.parametrize('feature_shape', MAPS)
def test_no_box_in_the_batch(images, feature_shape):
    foreground, background = check([torch.zeros(0, 4)] * images, feature_shape)
    assert not foreground.any()
    assert torch.allclose(background.sum((1, 2)), torch.ones(images))


def test_a_batch_without_images():
    foreground, background = foreground_background_masks([], IMAGE, (3, 4))
    assert foreground.shape == background.shape == (0, 3, 4)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_half_and_double_boxes_are_taken_as_what_they_hold(dtype):
    batch = [quarter_boxes(40, seed=3).to(dtype), quarter_boxes(3, seed=4).to(dtype)]
    check(batch, (7, 5))


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_integer_boxes(dtype):
    batch = [quarter_boxes(40, seed=5, low=0, high=60).to(dtype), torch.zeros(0, 4, dtype=dtype)]
    check(batch, (7, 5))


def test_dtypes_may_differ_between_images():
    batch = [
        quarter_boxes(5, seed=6).half(),
        quarter_boxes(7, seed=7).long(),
        quarter_boxes(2, seed=8),
    ]
    check(batch, (7, 5))


@pytest.mark.parametrize('shape', [(3, 5), (4,), (2, 4, 1)])
def test_what_is_no_box_is_a_sentence(shape):
    with pytest.raises(ValueError, match=r'boxes\[1\] must be \[G, 4\]'):
        foreground_background_masks([torch.zeros(1, 4), torch.zeros(shape)], IMAGE, (7, 5))


# ---------------------------------------------------------------- the same through FGDLoss

SHAPE = (6, 8)
WEIGHTS = dict(alpha=0.7, beta=0.3, gamma=0.05, lam=0.02)


def _loss(boxes, wrap=lambda t: t, ignored=None, seed=0):
    """Loss, parts and the gradient of the student for two or more images with these boxes."""
    torch.manual_seed(0)
    loss = FGDLoss((0,), 4, 4, weights=WEIGHTS)
    g = torch.Generator().manual_seed(seed)
    student = torch.randn(len(boxes), 4, *SHAPE, generator=g).requires_grad_()
    teacher = torch.randn(len(boxes), 4, *SHAPE, generator=g)
    samples = []
    for i, box in enumerate(boxes):
        sample = DetDataSample(metainfo=dict(img_shape=IMAGE, batch_input_shape=IMAGE))
        sample.gt_instances = InstanceData(bboxes=wrap(box))
        if ignored is not None:
            sample.ignored_instances = InstanceData(bboxes=wrap(ignored[i]))
        samples.append(sample)
    parts = loss.parts([student], [teacher], samples)
    sum(parts.values()).backward()
    return parts, student, teacher


def _expected(boxes, student, teacher):
    """Foreground and background terms, cell by cell in float64."""
    student, teacher = student.detach().double(), teacher.double()
    total = [0.0, 0.0]
    for i, box in enumerate(boxes):
        spatial = (
            (teacher[i].abs().mean(0).flatten() / 0.5).softmax(0).view(SHAPE) * SHAPE[0] * SHAPE[1]
        )
        channel = (teacher[i].abs().mean((1, 2)) / 0.5).softmax(0) * len(teacher[i])
        error = ((teacher[i] - student[i]) ** 2 * channel[:, None, None]).sum(0) * spatial
        for k, mask in enumerate(paint(box.tolist(), SHAPE)):
            total[k] += (mask * error).sum().item() / len(boxes)
    return WEIGHTS['alpha'] * total[0], WEIGHTS['beta'] * total[1]


@pytest.mark.parametrize('wrap', [lambda t: t, HorizontalBoxes], ids=['tensor', 'BaseBoxes'])
@pytest.mark.parametrize('name', [*HOSTILE, 'none', '500'])
def test_fgd_with_a_hostile_image_and_an_ordinary_one(name, wrap):
    hostile = {'none': torch.zeros(0, 4), '500': quarter_boxes(500, seed=9)}
    box = hostile[name] if name in hostile else torch.tensor([HOSTILE[name]])
    boxes = [box, quarter_boxes(3, seed=11)]
    parts, student, teacher = _loss(boxes, wrap)
    foreground, background = _expected(boxes, student, teacher)
    assert parts['foreground'].item() == pytest.approx(foreground, rel=1e-5)
    assert parts['background'].item() == pytest.approx(background, rel=1e-5)
    assert torch.isfinite(student.grad).all() and student.grad.any()


def test_fgd_without_a_box_in_the_batch_has_no_foreground_and_an_even_background():
    boxes = [torch.zeros(0, 4)] * 3
    parts, student, teacher = _loss(boxes)
    assert parts['foreground'] == 0
    assert parts['background'].item() == pytest.approx(
        _expected(boxes, student, teacher)[1], rel=1e-5
    )
    assert torch.isfinite(student.grad).all() and student.grad.any()


def test_ignored_instances_are_background():
    boxes = [torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.zeros(0, 4)]
    ignored = [torch.tensor([[64.0, 48.0, 120.0, 90.0]]), torch.tensor([[0.0, 0.0, 60.0, 60.0]])]
    with_ignored, student, teacher = _loss(boxes, ignored=ignored)
    plain, _, _ = _loss(boxes)
    for name, value in plain.items():
        assert torch.equal(with_ignored[name], value), name
    foreground, background = _expected(boxes, student, teacher)
    assert with_ignored['foreground'].item() == pytest.approx(foreground, rel=1e-5)
    assert with_ignored['background'].item() == pytest.approx(background, rel=1e-5)
    # they would change the result if they were foreground
    as_foreground, _, _ = _loss([torch.cat(pair) for pair in zip(boxes, ignored, strict=True)])
    assert as_foreground['foreground'].item() != pytest.approx(foreground, rel=1e-2)


def test_packed_annotations_with_a_crowd_reach_the_loss_without_it():
    """What mmdet's own packing makes of an annotation with ``iscrowd``."""
    import numpy as np
    from mmdet.datasets.transforms import PackDetInputs

    packed = PackDetInputs(meta_keys=())(
        dict(
            img=np.zeros((96, 128, 3), np.uint8),
            gt_bboxes=HorizontalBoxes(
                torch.tensor([[8.0, 8.0, 40.0, 40.0], [60.0, 50.0, 99.0, 90.0]])
            ),
            gt_bboxes_labels=np.array([0, 1]),
            gt_ignore_flags=np.array([False, True]),
        )
    )['data_samples']
    assert packed.gt_instances.bboxes.tensor.tolist() == [[8.0, 8.0, 40.0, 40.0]]
    assert packed.ignored_instances.bboxes.tensor.tolist() == [[60.0, 50.0, 99.0, 90.0]]
