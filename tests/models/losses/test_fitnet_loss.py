"""FitNets against the values of mdistiller and RepDistiller."""

import pytest
import torch

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError
from dpk_mm.models.losses import FitNetLoss
from tests.helpers.golden_features import check, feats_channels, feats_large, feats_small, fill


def build(scale=1, **kwargs):
    stage = dict(index=0, student_channels=6, teacher_channels=10, scale=scale)
    loss = FitNetLoss([stage], **kwargs)
    conv, *norm = [m for m in loss.regressors['stage0'] if not isinstance(m, torch.nn.ReLU)]
    fill(conv.weight, 0)
    fill(conv.bias, 1)
    if norm:
        fill(norm[0].weight, 2, base=1)
        fill(norm[0].bias, 3)
    return loss


@pytest.mark.parametrize(
    ('inputs', 'scale', 'value', 'gradient'),
    [
        (feats_channels, 1, 1.483426, 0.02864083),
        (feats_large, 2, 1.475896, 0.02647086),
        (feats_small, 0.5, 1.432134, 0.01629652),
    ],
)
def test_the_value_is_that_of_public_code(inputs, scale, value, gradient):
    student, teacher = inputs()
    check(build(scale)([student], [teacher]), student, value, gradient)


def test_the_papers_form_is_half_the_sum_over_cells():
    student, teacher = feats_channels()
    loss = build(mode='paper', loss_weight=0.5)
    conv = loss.regressors['stage0'][0]
    total = 0.0
    for image, target in zip(student.detach().double(), teacher.double(), strict=True):
        hint = torch.einsum('oc,chw->ohw', conv.weight[:, :, 0, 0].double(), image)
        hint = (hint + conv.bias.double()[:, None, None]).clamp_min(0)
        total += 0.5 * ((hint - target) ** 2).sum().item()
    assert loss([student], [teacher]).item() == pytest.approx(0.5 * total / 4, rel=1e-5)


def test_stages_are_weighed_and_named():
    student, teacher = feats_channels()
    sizes = dict(student_channels=6, teacher_channels=10)
    loss = FitNetLoss([dict(index=0, weight=3.0, **sizes), dict(index=1, **sizes)])
    for stage in ('stage0', 'stage1'):
        for k, parameter in enumerate(loss.regressors[stage].parameters()):
            fill(parameter, k)
    parts = loss.parts([student, student], [teacher, teacher])
    assert list(parts) == ['stage0', 'stage1']
    assert parts['stage0'].item() == pytest.approx(3 * parts['stage1'].item(), rel=1e-6)


def test_arguments_out_of_range():
    with pytest.raises(ValueError, match="mode of FitNetLoss must be one of .* but is 'old'"):
        build(mode='old')
    with pytest.raises(UsageError, match='FitNetLoss has regressors for scale=1, 2 and 0.5'):
        build(scale=4)
    student, teacher = feats_large()
    with pytest.raises(UsageError, match='16x16 .* 8x8 at stage0, but scale is 1; set scale=2 '):
        build()([student], [teacher])
