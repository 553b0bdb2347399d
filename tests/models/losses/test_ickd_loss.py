"""ICKD-C against the values of the authors' code."""

import pytest

import dpk_mm  # noqa: F401
from dpk_mm.models.losses import ICKDLoss
from tests.helpers.golden_features import check, feats, feats_channels, fill


@pytest.mark.parametrize(
    ('mode', 'value', 'gradient'),
    [('cifar', 0.1382653, 0.03311628), ('imagenet', 0.03456633, 0.00827907)],
)
def test_the_value_is_that_of_public_code(mode, value, gradient):
    student, teacher = feats()
    stage = dict(index=0, student_channels=6, teacher_channels=6)
    check(ICKDLoss([stage], mode=mode, align=False)([student], [teacher]), student, value, gradient)


def test_other_channels_are_aligned():
    student, teacher = feats_channels()
    loss = ICKDLoss([dict(index=0, student_channels=6, teacher_channels=10)])
    conv, norm = loss.connectors['stage0']
    fill(conv.weight, 0)
    fill(norm.weight, 1, base=1)
    fill(norm.bias, 2)
    check(loss([student], [teacher]), student, 1.136928, 0.009208491)


def test_arguments_out_of_range():
    stage = dict(index=0, student_channels=6, teacher_channels=10)
    with pytest.raises(ValueError, match='align of ICKDLoss is False, but stage0 has 6 channels'):
        ICKDLoss([stage], align=False)
    with pytest.raises(ValueError, match='mode of ICKDLoss must be one of'):
        ICKDLoss([stage], mode='coco')
