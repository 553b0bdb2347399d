"""A small feature pyramid of two images with boxes, for the losses of detectors, and how they are compared."""

import copy

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

IMAGE = (64, 96)  # the padded batch
SHAPES = [(8, 12), (4, 6), (2, 3)]  # strides 8, 16 and 32
BOXES = [
    [[3.0, 5.0, 60.0, 50.0], [10.0, 10.0, 25.0, 30.0], [80.0, 40.0, 95.5, 63.0]],
    [[4.0, 2.0, 30.0, 20.0]],
]


def samples(boxes=BOXES):
    found = []
    for rows in boxes:
        instances = InstanceData(bboxes=torch.tensor(rows, dtype=torch.float32).view(-1, 4))
        meta = dict(img_shape=IMAGE, batch_input_shape=IMAGE)
        found.append(DetDataSample(metainfo=meta, gt_instances=instances))
    return found


def features(channels, seed, shapes=SHAPES, images=2):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, channels, *shape, generator=generator) for shape in shapes]


def double(feats):
    return [f.detach().double().requires_grad_() for f in feats]


def check_against(loss, slow, student, teacher, data_samples=None, seed=None, atol=1e-5):
    """The value and all gradients of ``loss`` in float32 against those of ``slow``, in float64.

    ``slow`` is called with a copy of the loss in float64, and the features of both sides in float64. ``atol`` is
    that of gradients, as a share of the largest of a tensor; of all parameters for theirs, since a bias's is a sum over
    positions that cancel.
    """
    exact = copy.deepcopy(loss).double()
    student = [f.detach().requires_grad_() for f in student]
    teacher = [f.detach().requires_grad_() for f in teacher]
    slow_student = double(student)
    expected = slow(exact, slow_student, [f.detach().double() for f in teacher])
    if seed is not None:
        torch.manual_seed(seed)
    value = loss(student, teacher, *([] if data_samples is None else [data_samples]))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-9)
    value.backward()
    expected.backward()
    assert all(f.grad is None for f in teacher)
    pairs = [(a.grad, b.grad) for a, b in zip(student, slow_student, strict=True)]
    pairs += [(a.grad, b.grad) for a, b in zip(loss.parameters(), exact.parameters(), strict=True)]
    of_parameters = [p.grad.abs().max().item() for p in exact.parameters() if p.grad is not None]
    compared = 0
    for place, (own, other) in enumerate(pairs):
        if own is None:  # a level that is not compared
            assert other is None
            continue
        if other is None:  # the slow formula has no use for it
            other = torch.zeros_like(own, dtype=torch.float64)
        scale = other.abs().max().item()
        if place >= len(student):
            scale = max(of_parameters)
        torch.testing.assert_close(own.double(), other, rtol=1e-4, atol=atol * scale + 1e-9)
        compared += 1
    assert compared
    return value.item()
