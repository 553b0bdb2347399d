"""FGFI against a loop over cells, with masks of their own test."""

import pytest
import torch

from dpk_mm.models.losses.fgfi_loss import FGFILoss
from tests.helpers.pyramid import BOXES, IMAGE, check_against, features, samples

STRIDES = (8, 16, 32)
RATIOS = (0.5, 1.0, 2.0)
ANCHORS = dict(scales=[3], ratios=list(RATIOS), strides=list(STRIDES))


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def cells():
    """(level, y, x, anchors) of all levels; mmdet's anchors are centred at the cell's corner."""
    for level, stride in enumerate(STRIDES):
        for y in range(IMAGE[0] // stride):
            for x in range(IMAGE[1] // stride):
                found = []
                for ratio in RATIOS:
                    h, w = 3 * stride * ratio**0.5, 3 * stride / ratio**0.5
                    cx, cy = x * stride, y * stride
                    found.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
                yield level, y, x, found


def convolve(layer, x):
    height, width = x.shape[1:]
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    out = layer.bias[:, None, None]
    for dy in range(3):
        for dx in range(3):
            window = padded[:, dy : dy + height, dx : dx + width]
            out = out + torch.einsum('oc,chw->ohw', layer.weight[:, :, dy, dx], window)
    return out


def reference(boxes, compared, threshold=0.5):
    def slow(loss, student, teacher):
        terms, near = dict.fromkeys(compared, 0.0), 0
        for i, rows in enumerate(boxes):
            adapted = {}
            for level in compared:
                layer = loss.align[str(level)]
                out = convolve(layer if loss.mode == 'paper' else layer[0], student[level][i])
                adapted[level] = out if loss.mode == 'paper' else out.clamp(min=0)
            places = [cell for cell in cells() if cell[0] in compared]
            best = [max(iou(a, box) for *_, found in places for a in found) for box in rows]
            for level, y, x, found in places:
                if any(
                    iou(a, box) > threshold * top
                    for a in found
                    for box, top in zip(rows, best, strict=True)
                ):
                    near += 1
                    gap = adapted[level][:, y, x] - teacher[level][i][:, y, x]
                    terms[level] = terms[level] + (gap**2).sum()
        weights = {level.student: level.weight for level in loss.levels}
        total = sum(weights[level] * term for level, term in terms.items())
        return loss.loss_weight * total / (2 * near)

    return slow


@pytest.mark.parametrize('student_channels', [6, 4])
@pytest.mark.parametrize('boxes', [BOXES, [[], BOXES[0]]], ids=['all', 'one'])
@pytest.mark.parametrize('compared', [(0, 1, 2), (0, 2)])
def test_value_and_gradients_equal_a_slow_formula(student_channels, boxes, compared):
    torch.manual_seed(0)
    levels = [dict(index=i, weight=1.0 + i) for i in compared]
    loss = FGFILoss(levels, student_channels, 6, ANCHORS, loss_weight=0.3)
    check_against(
        loss,
        reference(boxes, compared),
        features(student_channels, 1),
        features(6, 2),
        samples(boxes),
    )


def test_a_teacher_whose_pyramid_begins_elsewhere():
    """As a RetinaNet that learns from a Faster R-CNN: the anchors are those of the student's head."""
    torch.manual_seed(0)
    student, teacher = features(6, 1), features(6, 2)
    plain = FGFILoss((0, 1, 2), 6, 6, ANCHORS)
    levels = [dict(student_index=i, teacher_index=i + 1) for i in range(3)]
    shifted = FGFILoss(levels, 6, 6, ANCHORS)
    shifted.load_state_dict(plain.state_dict())
    finer = torch.zeros(len(teacher[0]), 6, IMAGE[0] // 4, IMAGE[1] // 4)
    torch.testing.assert_close(
        shifted(student, [finer, *teacher], samples()), plain(student, teacher, samples())
    )


def test_the_mode_of_the_authors_code():
    torch.manual_seed(0)
    loss = FGFILoss((0, 1, 2), 4, 6, ANCHORS, threshold=0.7, mode='code', loss_weight=1.0)
    assert loss.align['0'][0].weight.abs().max() <= 2e-4
    for parameter in loss.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    slow = reference(BOXES, (0, 1, 2), threshold=0.7)
    check_against(loss, slow, features(4, 1), features(6, 2), samples())


def test_levels_add_up():
    torch.manual_seed(0)
    loss = FGFILoss((0, 1, 2), 6, 6, ANCHORS)
    student, teacher = features(6, 1), features(6, 2)
    whole = loss(student, teacher, samples())
    loss.by_level = True
    parts = loss.parts(student, teacher, samples())
    assert list(parts) == ['level0', 'level1', 'level2']
    torch.testing.assert_close(sum(parts.values()), whole)


def test_no_box_is_a_loss_of_zero_with_a_gradient_for_all_parameters():
    loss = FGFILoss((0, 1, 2), 6, 6, ANCHORS)
    student = [f.requires_grad_() for f in features(6, 1)]
    value = loss(student, features(6, 2), samples([[], []]))
    assert value == 0
    value.backward()
    assert all(p.grad is not None and not p.grad.any() for p in loss.parameters())


def test_anchors_of_another_detector_are_refused():
    loss = FGFILoss((0, 1, 2), 6, 6, 'coco/faster_rcnn')  # begins at stride 4
    with pytest.raises(ValueError, match=r'FGFILoss has anchors with the strides \[4, 8, 16, 32'):
        loss(features(6, 1), features(6, 2), samples())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(mode='text'), "mode of FGFILoss must be 'paper' or 'code', but is 'text'"),
        (dict(threshold=1.0), r'threshold of FGFILoss must be in \[0, 1\), but is 1.0'),
        (dict(anchors='yolo'), "anchors of FGFILoss is 'yolo', but the names are"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        FGFILoss(**options)
