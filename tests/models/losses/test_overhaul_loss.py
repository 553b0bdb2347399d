"""OFD and its margin against the values of public code."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError
from dpk_mm.models.losses import OverhaulLoss
from dpk_mm.models.losses.overhaul_loss import margin_of_norm, partial_distance
from tests.helpers.golden_features import check, feats, feats_large

STAGE = dict(index=0, student_channels=6, teacher_channels=6)


class Teacher(nn.Module):
    def __init__(self, channels=6):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, channels, 1), nn.BatchNorm2d(channels))
        self.layer2 = nn.Sequential(nn.Conv2d(channels, 8, 1), nn.BatchNorm2d(8))


def test_the_distance_is_that_of_public_code():
    student, teacher = feats()
    margin = -(0.2 + 0.1 * torch.arange(6))
    check(partial_distance(student, teacher, margin), student, 549.8255, 23.44836)


def test_a_larger_student_is_compared_in_each_of_its_cells():
    """It was averaged to the teacher's size; public code repeats the teacher's cells."""
    student, teacher = feats_large()
    margin = [-0.1 * (c + 1) for c in range(10)]
    loss = OverhaulLoss(
        [dict(index=0, student_channels=6, teacher_channels=10, scale=2, margin=margin)]
    )
    own = loss.connectors['stage0'](student).tolist()
    expected = 0.0
    for image, maps in zip(own, teacher.tolist(), strict=True):
        for c, rows in enumerate(image):
            for y, row in enumerate(rows):
                for x, s in enumerate(row):
                    t = maps[c][y // 2][x // 2]
                    target = max(t, margin[c])
                    if s > target or t > 0:
                        expected += (s - target) ** 2 / len(own)
    assert loss([student], [teacher]).item() == pytest.approx(expected, rel=1e-5)


def test_the_margin_is_that_of_public_code():
    weight, bias = torch.tensor([1, 0.5, -2, 0.1, 0.3]), torch.tensor([0, 0.5, -1, 1, -0.3])
    expected = [-0.7978846, -0.2625676, -2.018321, -0.3, -0.38628]
    assert margin_of_norm(weight, bias).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_margin_is_the_mean_of_what_is_below_zero():
    torch.manual_seed(0)
    x = 0.4 + 1.3 * torch.randn(2_000_000, dtype=torch.float64)
    margin = margin_of_norm(torch.tensor([1.3]), torch.tensor([0.4]))
    assert margin.item() == pytest.approx(x[x < 0].mean().item(), rel=3e-3)


def test_without_a_norm_it_is_that_of_the_batch():
    _, teacher = feats()
    loss = OverhaulLoss([STAGE])
    expected = [teacher[:, c][teacher[:, c] < 0].mean().item() for c in range(6)]
    assert loss.margin(loss.stages[0], teacher).tolist() == pytest.approx(expected, rel=1e-5)
    assert torch.isfinite(loss.margin(loss.stages[0], teacher.abs())).all()


def test_a_norm_of_none_is_no_norm():
    """It was taken for a name, and the loss asked for a teacher."""
    _, teacher = feats()
    loss, plain = OverhaulLoss([dict(STAGE, teacher_bn=None)]), OverhaulLoss([STAGE])
    margins = [each.margin(each.stages[0], teacher) for each in (loss, plain)]
    assert torch.equal(*margins)
    given = OverhaulLoss([dict(STAGE, teacher_bn=None, margin=[-1.0] * 6)])
    assert given.margin(given.stages[0], teacher).tolist() == [-1.0] * 6


def test_the_margin_follows_the_teachers_norm():
    teacher = Teacher()
    loss = OverhaulLoss([dict(STAGE, teacher_bn='layer1.1')])
    with pytest.raises(UsageError, match="'layer1.1', but no teacher was given"):
        loss(*([x] for x in feats()))
    loss.prepare_from_teacher(teacher)
    assert not any('norm' in name for name, _ in loss.named_children())
    with torch.no_grad():  # as a checkpoint that is loaded later does
        teacher.layer1[1].bias.fill_(-0.5)
    margin = loss.margin(loss.stages[0], feats()[1])
    expected = margin_of_norm(torch.ones(6), torch.full((6,), -0.5))
    torch.testing.assert_close(margin, expected.float())
    student, given = feats()
    own = loss.connectors['stage0'](student)
    torch.testing.assert_close(loss([student], [given]), partial_distance(own, given, margin))


def test_a_distiller_gives_it_the_teacher():
    init_default_scope('mmrazor')
    stage = dict(STAGE, teacher_bn='layer1.1')
    distiller = MODELS.build(
        dict(
            type='DPKDistiller',
            records=dict(feats='layer1'),
            distill_losses=dict(loss_ofd=dict(type='OverhaulLoss', stages=[stage])),
        )
    )
    distiller.prepare_from_student(Teacher())
    teacher = Teacher()
    distiller.prepare_from_teacher(teacher)
    loss = distiller.distill_losses['loss_ofd']
    with torch.no_grad():
        teacher.layer1[1].bias.fill_(-0.5)
    expected = margin_of_norm(torch.ones(6), torch.full((6,), -0.5)).float()
    torch.testing.assert_close(loss.margin(loss.stages[0], feats()[1]), expected)


def test_stages_are_halved_from_deep_to_shallow():
    loss = OverhaulLoss([dict(STAGE, index=i) for i in range(3)])
    assert [stage.weight for stage in loss.stages] == [0.25, 0.5, 1]


@pytest.mark.parametrize(
    ('name', 'channels', 'message'),
    [
        ('layer1.2', 6, "'layer1.2', which is none of its .*; did you mean layer1.1"),
        ('layer1.0', 6, "'layer1.0', which is none of its batch normalisations"),
        ('layer2.1', 6, "'layer2.1', which has 8 channels, but the stage has 6"),
    ],
)
def test_names_that_are_no_norm_of_the_stage(name, channels, message):
    loss = OverhaulLoss([dict(STAGE, teacher_bn=name)])
    with pytest.raises(UsageError, match=message):
        loss.prepare_from_teacher(Teacher(channels))


def test_a_name_that_stands_for_several():
    loss = OverhaulLoss([dict(STAGE, teacher_bn='1')])
    with pytest.raises(UsageError, match='stands for layer1.1, layer2.1'):
        loss.prepare_from_teacher(Teacher())


def test_margins_out_of_range():
    with pytest.raises(UsageError, match='margin of stage0 must be 6 numbers < 0'):
        OverhaulLoss([dict(STAGE, margin=[-1.0] * 5)])
    with pytest.raises(UsageError, match='has margin and teacher_bn'):
        OverhaulLoss([dict(STAGE, margin=[-1.0] * 6, teacher_bn='layer1.1')])
