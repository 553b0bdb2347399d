"""RoIAlign as sums over four corners, and the level of each instance."""

import math

import pytest
import torch

from dpk_mm.models.loss_parts.instances import pool_instances
from tests.helpers.pyramid import BOXES, IMAGE, SHAPES, features


def sample(image, y, x):
    """One bilinear value of ``[C, H, W]``; cells have their values at their centres."""
    height, width = image.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return torch.zeros_like(image[:, 0, 0])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = y - top, x - left
    upper = (1 - across) * image[:, top, left] + across * image[:, top, right]
    lower = (1 - across) * image[:, bottom, left] + across * image[:, bottom, right]
    return (1 - down) * upper + down * lower


def slow_pool(image, box, cells):
    """Every cell is the mean of 2x2 points."""
    height, width = image.shape[1:]
    x1, x2 = (v * width / IMAGE[1] - 0.5 for v in (box[0], box[2]))
    y1, y2 = (v * height / IMAGE[0] - 0.5 for v in (box[1], box[3]))
    rows = []
    for row in range(cells):
        for column in range(cells):
            points = [
                sample(
                    image,
                    y1 + (row + (i + 0.5) / 2) * (y2 - y1) / cells,
                    x1 + (column + (j + 0.5) / 2) * (x2 - x1) / cells,
                )
                for i in range(2)
                for j in range(2)
            ]
            rows.append(sum(points) / 4)
    return torch.stack(rows, dim=1).view(-1, cells, cells)


def slow_level(box, strides=(8, 16, 32)):
    size = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    fitting = math.floor(math.log2(size / 14))
    return min(range(len(strides)), key=lambda i: abs(math.log2(strides[i]) - fitting))


def slow_instances(feats, boxes, cells):
    """In the order of levels, then images."""
    places = [(slow_level(box), i, box) for i, rows in enumerate(boxes) for box in rows]
    places.sort(key=lambda place: place[:2])
    return torch.stack([slow_pool(feats[level][i], box, cells) for level, i, box in places])


def tensors(boxes):
    return [torch.tensor(rows).view(-1, 4) for rows in boxes]


@pytest.mark.parametrize('cells', [1, 3])
def test_instances_equal_a_slow_formula(cells):
    student, teacher = (
        [f.double() for f in features(channels, seed)] for channels, seed in ((4, 1), (6, 2))
    )
    found = pool_instances([student, teacher], tensors(BOXES), IMAGE, cells)
    for own, feats in zip(found, (student, teacher), strict=True):
        torch.testing.assert_close(own, slow_instances(feats, BOXES, cells), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ('size', 'level'), [(8, 0), (100, 0), (223, 0), (225, 1), (447, 1), (449, 2), (900, 2)]
)
def test_the_level_of_an_instance(size, level):
    """As in a feature pyramid: from 224 pixels on stride 16, and so on; P3 takes the smaller ones."""
    image = (1024, 1024)
    feats = [torch.full((1, 1, 1024 // s, 1024 // s), float(i)) for i, s in enumerate((8, 16, 32))]
    (found,) = pool_instances([feats], [torch.tensor([[0.0, 0.0, size, size]])], image, 1)
    assert found.item() == level


def test_boxes_that_are_no_instances():
    bad = [[[5.0, 5.0, 5.0, 9.0], [math.nan, 0.0, 9.0, 9.0], [9.0, 0.0, 4.0, 9.0]], []]
    (found,) = pool_instances([features(6, 1, SHAPES)], tensors(bad), IMAGE, 2)
    assert found.shape == (0, 6, 2, 2)
