"""AT against the values of public code, and mmrazor's one level."""

import pytest
import torch
from mmrazor.models.losses import ATLoss

import dpk_mm  # noqa: F401
from dpk_mm.models.losses import AttentionTransferLoss
from tests.helpers.golden_features import check, feats, feats_channels, feats_large, feats_small


@pytest.mark.parametrize(
    ('inputs', 'scale', 'mode', 'value', 'gradient'),
    [
        (feats, 1, 'code', 0.008036294, 0.0008723664),
        (feats, 1, 'paper', 0.7168472, 0.03903147),
        (feats_channels, 1, 'code', 0.00728963, 0.0008663245),
        (feats_channels, 1, 'paper', 0.6826291, 0.04061406),
        (feats_large, 2, 'code', 0.006453457, 0.0008323114),
        (feats_small, 0.5, 'code', 0.00593118, 0.0007988592),
    ],
)
def test_the_value_is_that_of_public_code(inputs, scale, mode, value, gradient):
    student, teacher = inputs()
    loss = AttentionTransferLoss([dict(index=0, scale=scale)], mode=mode)
    check(loss([student], [teacher]), student, value, gradient)


def test_stages_are_summed_and_one_of_equal_size_is_mmrazors():
    student, teacher = feats_channels()
    loss = AttentionTransferLoss([dict(index=0), dict(index=1, weight=0.5)], loss_weight=1000.0)
    expected = 1500 * ATLoss()(student, teacher)
    torch.testing.assert_close(loss([student] * 2, [teacher] * 2), expected)


def test_equal_features_have_a_finite_gradient():
    student, _ = feats()
    loss = AttentionTransferLoss([dict(index=0)], mode='paper')
    value = loss([student], [student.detach()])
    value.backward()
    assert value.item() == 0
    assert torch.isfinite(student.grad).all()
