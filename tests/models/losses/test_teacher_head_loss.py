"""The loss that reads features with the teacher's head, against the formula in float64."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from dpk_mm.errors import UsageError
from dpk_mm.models.losses import DPKLoss, TeacherHeadLoss
from dpk_mm.modules import FixedMaskRatio

STAGE = dict(
    index=1,
    student_channels=6,
    teacher_channels=8,
    embed_dims=8,
    encoder_depth=1,
    decoder_depth=1,
    num_heads=2,
    position_embedding='sinusoidal',
)


class Head(nn.Module):
    """As mmpretrain's linear head: the last of a tuple of vectors."""

    def __init__(self, channels=5, classes=4):
        super().__init__()
        self.fc = nn.Linear(channels, classes)

    def forward(self, feats):
        return self.fc(feats[-1])


def teacher(channels=5):
    model = SimpleNamespace(
        head=Head(channels), neck=lambda feats: tuple(x.mean((2, 3)) for x in feats)
    )
    model.head.requires_grad_(False)
    return model


def feats(*channels, seed=0):
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(3, c, 4, 4, generator=g) for c in channels)


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def head_term(model, student, target, tau):
    w, b = (p.detach().double().numpy() for p in (model.head.fc.weight, model.head.fc.bias))
    p, q = (softmax((x.double().mean((2, 3)).numpy() @ w.T + b) / tau) for x in (target, student))
    return tau**2 * (p * np.log(p / q)).sum(1).mean()


def test_both_terms_by_value():
    model = teacher()
    loss = TeacherHeadLoss(
        aligned_levels=(1,), tau=2.0, feature_weight=0.5, head_weight=3.0, loss_weight=2.0
    )
    loss.prepare_from_teacher(model)
    student, target = feats(7, 5), feats(9, 5, seed=1)
    parts = loss.parts(student, target)
    square = ((student[1].double() - target[1].double()) ** 2).mean().item()
    assert parts['feature'].item() == pytest.approx(2.0 * 0.5 * square, rel=1e-6)
    expected = 2.0 * 3.0 * head_term(model, student[1], target[1], 2.0)
    assert parts['head'].item() == pytest.approx(expected, rel=1e-5)


def test_all_aligned_levels_are_compared():
    loss = TeacherHeadLoss(aligned_levels=(0, 1))
    loss.prepare_from_teacher(teacher())
    student, target = feats(3, 5), feats(3, 5, seed=1)
    squares = [((s - t) ** 2).mean() for s, t in zip(student, target, strict=True)]
    torch.testing.assert_close(loss.parts(student, target)['feature'], sum(squares))


@pytest.mark.parametrize('aligned', [(-1,), (1,), (-1, 1)])
def test_a_level_counts_once_by_whatever_index(aligned):
    student, target = feats(3, 5), feats(3, 5, seed=1)
    loss = TeacherHeadLoss(aligned_levels=aligned)
    loss.prepare_from_teacher(teacher())
    square = ((student[1] - target[1]) ** 2).mean()
    torch.testing.assert_close(loss.parts(student, target)['feature'], square)


def test_what_the_head_does_not_see_costs_nothing_in_its_term():
    model = teacher()
    loss = TeacherHeadLoss(aligned_levels=(0,))
    loss.prepare_from_teacher(model)
    (target,) = feats(5)
    # another order of the positions: the pooled feature, and so the decision, is the same
    moved = target.flip(3)
    parts = loss.parts((moved,), (target,))
    assert parts['head'].item() == pytest.approx(0, abs=1e-6) and parts['feature'] > 1


def test_the_hybrid_of_dpk_is_read():
    torch.manual_seed(0)
    model = teacher(8)
    loss = DPKLoss(transforms=dict(last=STAGE), criterion=dict(type='TeacherHeadLoss', tau=1.0))
    loss.mask_ratio = FixedMaskRatio(0.5)
    assert loss.criterion.aligned == (1,)
    with pytest.raises(UsageError, match='was given no teacher'):
        loss.parts(feats(6, 6), feats(8, 8))
    loss.prepare_from_teacher(model)
    hybrids = []
    loss.transforms['last'].register_forward_hook(lambda *args: hybrids.append(args[-1]))
    student = tuple(f.requires_grad_() for f in feats(6, 6))
    target = feats(8, 8, seed=1)
    parts = loss.parts(student, target)
    hybrid = hybrids[0][0] if isinstance(hybrids[0], tuple) else hybrids[0]
    assert parts['head'].item() == pytest.approx(
        head_term(model, hybrid.detach(), target[1], 1.0), rel=1e-4
    )
    parts['head'].backward()
    assert student[1].grad.abs().sum() > 0 and model.head.fc.weight.grad is None


def test_a_convolution_without_a_gradient_is_refused():
    """It was built and never used, at which DistributedDataParallel stops."""
    channels = dict(student_channels=6, teacher_channels=8)
    loss = DPKLoss(transforms=dict(last=STAGE), criterion=dict(type='TeacherHeadLoss', **channels))
    loss.mask_ratio = FixedMaskRatio(0.5)
    loss.prepare_from_teacher(teacher(8))
    with pytest.raises(
        UsageError, match="feature 1 has the teacher's channels .* leave out student_channels"
    ):
        loss.parts(feats(6, 6), feats(8, 8))


def test_what_does_not_fit():
    loss = TeacherHeadLoss()
    with pytest.raises(UsageError, match='SimpleNamespace has no head'):
        loss.prepare_from_teacher(SimpleNamespace())
    loss.prepare_from_teacher(teacher())
    with pytest.raises(
        UsageError, match=r'reads feature 1, \(3, 5, 4, 4\) in the teacher.*is given \(3, 6'
    ):
        loss.parts(feats(5, 6), feats(5, 5))
    with pytest.raises(ValueError, match='give both, or none'):
        TeacherHeadLoss(student_channels=3)
    with pytest.raises(ValueError, match='head_weight of TeacherHeadLoss must be'):
        TeacherHeadLoss(head_weight=-1.0)
