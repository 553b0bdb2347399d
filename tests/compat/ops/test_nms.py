import math

import pytest
import torch
from mmcv.ops import batched_nms, nms, soft_nms

METHODS = ('naive', 'linear', 'gaussian')


def iou(a, b, offset=0):
    def area(box):
        return (box[2] - box[0] + offset) * (box[3] - box[1] + offset)

    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    union = area(a) + area(b) - width * height
    return width * height / union if union else 0.0


def slow_nms(boxes, scores, threshold, offset=0):
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[j], offset) <= threshold for j in kept):
            kept.append(i)
    return kept


def slow_soft_nms(boxes, scores, threshold, sigma, min_score, method, offset):
    """Bodla et al., Fig. 2, on a list in which the last box takes the place of a discarded one."""
    items = [[i, box, score] for i, (box, score) in enumerate(zip(boxes, scores, strict=True))]
    done = 0
    while done < len(items):
        best = max(range(done, len(items)), key=lambda k: items[k][2])
        items[done], items[best] = items[best], items[done]
        k = done + 1
        while k < len(items):
            overlap = iou(items[done][1], items[k][1], offset)
            if method == 'gaussian':
                items[k][2] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                items[k][2] *= 1 - overlap if method == 'linear' else 0
            if items[k][2] >= min_score:
                k += 1
            elif k == len(items) - 1:
                items.pop()
            else:
                items[k] = items.pop()
        done += 1
    return items


def random_boxes(seed, count, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 30
    size = torch.rand(count, 2, generator=generator) * 40 + 5
    scores = torch.randperm(count, generator=generator) / count + 0.5 / count
    return torch.cat([corner, corner + size], dim=1).to(dtype), scores.to(dtype)


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.1, 0.3, 0.6])
def test_nms_keeps_what_a_greedy_loop_keeps(device, check, threshold, offset):
    boxes, scores = random_boxes(0, 80)
    dets, inds = nms(boxes.to(device), scores.to(device), threshold, offset=offset)
    expected = slow_nms(boxes.tolist(), scores.tolist(), threshold, offset)
    assert inds.tolist() == expected
    assert 3 < len(expected) < 80
    check('nms', dets, torch.cat([boxes, scores[:, None]], dim=1)[expected], 0)


def test_nms_counts_the_last_pixel_with_offset_1(device):
    # Widths 10 and 10, 5 in common: IoU 50 / 150. With the offset: 66 / 176.
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10]], device=device)
    scores = torch.tensor([0.9, 0.8], device=device)
    assert len(nms(boxes, scores, 0.35)[1]) == 2
    assert len(nms(boxes, scores, 0.35, offset=1)[1]) == 1


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_nms_takes_other_precisions(device, dtype):
    boxes, scores = random_boxes(1, 40)
    boxes = boxes.round().to(dtype)  # exact in all of them
    scores = scores.to(dtype)
    kept = nms(boxes.to(device), scores.float().to(device), 0.41)[1]  # mixed, as in AMP
    expected = slow_nms(boxes.tolist(), scores.tolist(), 0.41)
    assert kept.tolist() == expected
    assert 3 < len(expected) < 40


def test_nms_of_nothing(device):
    dets, inds = nms(torch.zeros(0, 4, device=device), torch.zeros(0, device=device), 0.5)
    assert dets.shape == (0, 5)
    assert inds.shape == (0,) and inds.dtype == torch.int64


def test_batched_nms_suppresses_within_a_class_only(device):
    boxes, scores = random_boxes(2, 60)
    classes = torch.arange(60) % 3
    inds = batched_nms(
        boxes.to(device),
        scores.to(device),
        classes.to(device),
        {'type': 'nms', 'iou_threshold': 0.3},
    )[1]
    expected = []
    for label in range(3):
        members = (classes == label).nonzero()[:, 0]
        kept = slow_nms(boxes[members].tolist(), scores[members].tolist(), 0.3)
        expected += members[kept].tolist()
    assert sorted(inds.tolist()) == sorted(expected)


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('method', METHODS)
def test_soft_nms_equals_the_loop(device, check, method, offset):
    for seed in range(3):
        boxes, scores = random_boxes(seed, 60)
        dets, inds = soft_nms(
            boxes.to(device), scores.to(device), 0.3, 0.5, 0.05, method, offset=offset
        )
        items = slow_soft_nms(boxes.tolist(), scores.tolist(), 0.3, 0.5, 0.05, method, offset)
        assert 3 < len(items) < 60
        assert inds.tolist() == [i for i, _, _ in items]
        expected = torch.tensor([[*box, score] for _, box, score in items], dtype=torch.float64)
        check(f'softnms {method}', dets, expected, 2e-6)


@pytest.mark.parametrize('method', METHODS)
def test_soft_nms_breaks_ties_as_the_loop(method):
    boxes, scores = random_boxes(5, 50)
    scores = (scores * 4).ceil() / 4
    inds = soft_nms(boxes, scores, 0.3, 0.5, 0.2, method)[1]
    items = slow_soft_nms(boxes.tolist(), scores.tolist(), 0.3, 0.5, 0.2, method, 0)
    assert inds.tolist() == [i for i, _, _ in items]


def test_soft_nms_of_boxes_without_area():
    # The example of mmcv's documentation: five of six are kept.
    boxes = torch.tensor(
        [[4.0, 3, 5, 3], [4, 3, 5, 4], [3, 1, 3, 1], [3, 1, 3, 1], [3, 1, 3, 1], [3, 1, 3, 1]]
    )
    scores = torch.tensor([0.9, 0.9, 0.5, 0.5, 0.4, 0.0])
    for method in METHODS:
        dets, inds = soft_nms(boxes, scores, 0.6, method=method)
        assert len(inds) == len(dets) == 5
        assert dets[:, 4].tolist() == pytest.approx([0.9, 0.9, 0.5, 0.5, 0.4])


def test_soft_nms_keeps_the_input_and_takes_numpy():
    boxes, scores = random_boxes(6, 20)
    before = scores.clone()
    dets, inds = soft_nms(boxes.numpy(), scores.numpy(), 0.3)
    assert torch.equal(scores, before)
    assert dets.shape == (len(inds), 5)


def test_soft_nms_of_nothing():
    dets, inds = soft_nms(torch.zeros(0, 4), torch.zeros(0))
    assert dets.shape == (0, 5) and inds.shape == (0,)
