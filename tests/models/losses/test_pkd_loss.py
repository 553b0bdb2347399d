"""PKD against Pearson's correlation written out, channel by channel."""

import pytest
import torch
from mmrazor.models.losses import PKDLoss

from dpk_mm.models.losses.pkd_loss import LevelPKDLoss
from tests.helpers.pyramid import SHAPES, check_against, features


def aligned(loss, index, feature):
    if str(index) not in loss.align:
        return feature
    return torch.einsum('oc,nchw->nohw', loss.align[str(index)].weight[:, :, 0, 0], feature)


def correlation(x, y):
    x, y = x - x.mean(), y - y.mean()
    return (x * y).sum() / ((x * x).sum() * (y * y).sum()).sqrt()


def slow(loss, student, teacher):
    total = 0.0
    for level in loss.levels:
        s = aligned(loss, level.student, student[level.student])
        t = teacher[level.teacher]
        m = t[:, 0].numel()
        channels = [1 - correlation(s[:, c], t[:, c]) for c in range(t.shape[1])]
        total = total + level.weight * (m - 1) / m * sum(channels) / len(channels)
    return loss.loss_weight * total


@pytest.mark.parametrize('student_channels', [6, 4])
def test_value_and_gradients_equal_a_slow_formula(student_channels):
    torch.manual_seed(0)
    levels = (0, dict(index=1, weight=2.5), 2)
    loss = LevelPKDLoss(levels, student_channels, 6, loss_weight=3.0)
    assert len(loss.align) == (0 if student_channels == 6 else 3)
    # the code adds 1e-6 to the deviation
    check_against(loss, slow, features(student_channels, 1), features(6, 2), atol=1e-4)


def test_it_is_the_sum_of_mmrazors():
    student, teacher = features(6, 1), features(6, 2)
    theirs = PKDLoss(loss_weight=6)(tuple(student), tuple(teacher))
    torch.testing.assert_close(LevelPKDLoss((0, 1, 2), 6, 6)(student, teacher), theirs)


def test_scale_and_mean_of_a_channel_do_not_matter():
    teacher = features(6, 2)
    student = [3.0 * t + torch.arange(6.0).view(-1, 1, 1) for t in teacher]
    loss = LevelPKDLoss((0, 1, 2), 6, 6)
    assert loss(student, teacher).item() == pytest.approx(0, abs=1e-5)
    opposite = loss([-t for t in teacher], teacher).item()
    expected = sum(2 * (1 - 1 / (2 * h * w)) for h, w in SHAPES)
    assert opposite == pytest.approx(6.0 * expected, rel=1e-4)


def test_a_constant_channel_has_a_finite_gradient():
    student = [torch.zeros_like(f).requires_grad_() for f in features(6, 1)]
    LevelPKDLoss((0, 1, 2), 6, 6)(student, features(6, 2)).backward()
    assert all(torch.isfinite(f.grad).all() for f in student)


def test_a_student_of_another_width_alone_is_resized():
    """mmrazor's compares heights only."""
    student, teacher = features(6, 1, [(8, 11)]), features(6, 2, [(8, 12)])
    with pytest.raises(AssertionError):
        PKDLoss()(student[0], teacher[0])
    wide = torch.nn.functional.interpolate(student[0], size=(8, 12), mode='bilinear')
    loss = LevelPKDLoss((0,), 6, 6)
    torch.testing.assert_close(loss(student, teacher), loss([wide], teacher))


def test_one_value_has_no_correlation():
    one = features(6, 1, [(1, 1)], images=1)
    with pytest.raises(ValueError, match=r'two values of a channel or more, but level 0 .*1, 6, 1'):
        LevelPKDLoss((0,), 6, 6)(one, one)
