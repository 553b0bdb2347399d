import pytest
import torch

from dpk_mm.functional import foreground_background_masks
from dpk_mm.models.losses import FGDLoss
from tools.benchmark_suites.fgd_reference import box_masks_by_loop, fgd_by_terms
from tools.benchmark_suites.functions import _samples, random_boxes

IMAGE, SHAPE = (96, 160), (12, 20)


@pytest.mark.parametrize('count', [1, 7, 80])
def test_masks_equal_ours(count):
    boxes = [random_boxes(count, IMAGE, seed, 'cpu') for seed in range(2)]
    for slow, fast in zip(
        box_masks_by_loop(boxes, IMAGE, SHAPE),
        foreground_background_masks(boxes, IMAGE, SHAPE),
        strict=True,
    ):
        torch.testing.assert_close(slow, fast)


def test_what_is_timed_is_the_same_loss_with_the_same_gradient():
    torch.manual_seed(0)
    loss = FGDLoss(levels=(0,), student_channels=16, teacher_channels=16)
    for parameter in loss.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    student, teacher = torch.randn(2, 16, *SHAPE, requires_grad=True), torch.randn(2, 16, *SHAPE)
    boxes = [random_boxes(9, IMAGE, seed, 'cpu') for seed in range(2)]
    contexts = loss.student_context['0'], loss.teacher_context['0']
    slow = fgd_by_terms(student, teacher, boxes, IMAGE, tuple(loss.weights), *contexts)
    fast = loss([student], [teacher], _samples(boxes, IMAGE))
    torch.testing.assert_close(fast, slow)
    slow_grad, fast_grad = (torch.autograd.grad(v, student)[0] for v in (slow, fast))
    torch.testing.assert_close(fast_grad, slow_grad)


def test_boxes_lie_inside_the_image():
    boxes = random_boxes(500, IMAGE, 0, 'cpu')
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= IMAGE[1]).all() and (boxes[:, 3] <= IMAGE[0]).all()
    assert ((boxes[:, 2:] - boxes[:, :2]) >= 8).all()
