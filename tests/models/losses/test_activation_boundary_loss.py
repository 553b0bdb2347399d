"""AB against the values of public code."""

import pytest
import torch
from mmrazor.models.losses import ABLoss

import dpk_mm  # noqa: F401
from dpk_mm.models.losses import ActivationBoundaryLoss
from tests.helpers.golden_features import check, feats


def stage(index, own, given, **kwargs):
    return dict(index=index, student_channels=own, teacher_channels=given, **kwargs)


def test_one_stage_is_that_of_public_code():
    student, teacher = feats()
    loss = ActivationBoundaryLoss([stage(0, 6, 6)])
    assert list(loss.parameters()) == []
    check(loss([student], [teacher]), student, 2.200583, 0.08125114)
    torch.testing.assert_close(loss([student], [teacher]), ABLoss()(student, teacher))


def test_three_stages_are_halved_from_deep_to_shallow():
    torch.manual_seed(11)
    pairs = [
        (torch.randn(4, c, z, z), torch.randn(4, c, z, z)) for c, z in ((6, 8), (10, 4), (14, 2))
    ]
    student = [s.requires_grad_() for s, _ in pairs]
    loss = ActivationBoundaryLoss([stage(i, c, c) for i, c in enumerate((6, 10, 14))])
    assert [s.weight for s in loss.stages] == [0.25, 0.5, 1]
    check(loss(student, [t for _, t in pairs]), student[0], 1.33169, 0.0206943)


def test_a_weight_of_the_config_stands():
    loss = ActivationBoundaryLoss([stage(0, 6, 6, weight=2.0), stage(1, 6, 6)])
    assert [s.weight for s in loss.stages] == [2, 1]


def test_other_channels_have_a_connector_without_relu():
    student, teacher = feats((4, 3, 16, 16), (4, 6, 8, 8), seed=3)
    loss = ActivationBoundaryLoss([stage(0, 3, 6, scale=2)], margin=0.5)
    connector = loss.connectors['stage0']
    assert not any(isinstance(m, torch.nn.ReLU) for m in connector)
    own = connector(student).detach().double()
    on, off = teacher > 0, teacher <= 0
    total = ((own + 0.5) ** 2 * ((own > -0.5) & off)).sum() + (
        (own - 0.5) ** 2 * ((own <= 0.5) & on)
    ).sum()
    assert loss([student], [teacher]).item() == pytest.approx(total.item() * 3 / 4000, rel=1e-5)


def test_margin_out_of_range():
    with pytest.raises(ValueError, match='margin of ActivationBoundaryLoss must be > 0, but is 0'):
        ActivationBoundaryLoss([stage(0, 6, 6)], margin=0)
