"""VID against the values of public code."""

import pytest
import torch

import dpk_mm  # noqa: F401
from dpk_mm.models.losses import VIDLoss
from tests.helpers.golden_features import check, feats_channels, feats_large, feats_small, fill


@pytest.mark.parametrize(
    ('inputs', 'scale', 'value', 'gradient'),
    [
        (feats_channels, 1, 0.9379578, 0.003756287),
        (feats_large, 2, 0.9141699, 0.001289313),
        (feats_small, 0.5, 0.8687795, 0.003757938),
    ],
)
def test_the_value_is_that_of_public_code(inputs, scale, value, gradient):
    student, teacher = inputs()
    loss = VIDLoss([dict(index=0, student_channels=6, teacher_channels=10, scale=scale)])
    for k, place in enumerate((0, 2, 4)):
        fill(loss.means['stage0'][place].weight, k, amp=0.5)
    check(loss([student], [teacher]), student, value, gradient)


@pytest.mark.parametrize('start', [0.3, 5.0, 200.0])
def test_the_variance_starts_as_it_is_given_and_is_trained(start):
    stage = dict(index=0, student_channels=6, teacher_channels=10)
    loss = VIDLoss([stage], init_variance=start)
    raw = loss.raw_variances['stage0']
    variance = torch.nn.functional.softplus(raw) + loss.eps
    assert variance.tolist() == pytest.approx([start] * 10, rel=1e-5)
    student, teacher = feats_channels()
    loss([student], [teacher]).backward()
    assert raw.grad.abs().min() > 0


def test_arguments_out_of_range():
    stage = dict(index=0, student_channels=6, teacher_channels=10)
    with pytest.raises(ValueError, match='init_variance of VIDLoss must be > eps > 0, but is 0'):
        VIDLoss([stage], init_variance=0)
