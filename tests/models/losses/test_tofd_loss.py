"""TOFD against the paper's four terms, written out in float64."""

import math
from types import SimpleNamespace

import pytest
import torch

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError
from dpk_mm.models.losses import TOFDLoss

SIZES = [(3, 4, 8), (5, 6, 4)]  # student's channels, teacher's channels, side
STAGES = [
    dict(index=i, student_channels=s, teacher_channels=t) for i, (s, t, _) in enumerate(SIZES)
]
LABELS = [2, 0, 1]
SAMPLES = [SimpleNamespace(gt_label=torch.tensor([label])) for label in LABELS]


def build(**kwargs):
    torch.manual_seed(4)
    return TOFDLoss(STAGES, num_classes=3, **kwargs).double().train()


def inputs():
    torch.manual_seed(3)
    student = [torch.randn(3, s, z, z, dtype=torch.float64) for s, _, z in SIZES]
    return [x.requires_grad_() for x in student], [
        torch.randn(3, t, z, z, dtype=torch.float64) for _, t, z in SIZES
    ]


def softmax(row, tau=1.0):
    exps = [math.exp(x / tau) for x in row]
    return [e / sum(exps) for e in exps]


def cross_entropy(logits):
    rows = zip(logits.tolist(), LABELS, strict=True)
    return sum(-math.log(softmax(row)[label]) for row, label in rows) / len(LABELS)


def frobenius(matrix):
    return math.sqrt(sum(value**2 for row in matrix.tolist() for value in row))


@pytest.mark.parametrize('mode', ['code', 'paper'])
def test_the_terms_are_those_of_the_formulas(mode):
    loss = build(mode=mode, tau=2.0, loss_weight=0.5)
    student, teacher = inputs()
    parts = loss.parts(student, teacher, SAMPLES)
    feature = orthogonal = 0.0
    for i, name in enumerate(('stage0', 'stage1')):
        own = loss.branches['student'][name].convs(student[i]).mean((2, 3))
        given = loss.branches['teacher'][name].convs(teacher[i]).mean((2, 3))
        weight = loss.resize[name].weight
        gap = (own @ weight.T - given).tolist()
        squares = sum(value**2 for row in gap for value in row)
        feature += 0.05 * (math.sqrt(squares) if mode == 'code' else squares / 3)
        for product in (weight @ weight.T, weight.T @ weight):
            orthogonal += 0.03 * frobenius(product - torch.eye(len(product)))
        if i == 0:
            logits = [
                loss.branches[side][name].classify(x)
                for side, x in (('student', own), ('teacher', given))
            ]
    divergence = 0.0
    for own, given in zip(*(x.tolist() for x in logits), strict=True):
        q, p = softmax(own, 2.0), softmax(given, 2.0)
        divergence += sum(b * math.log(b / a) for a, b in zip(q, p, strict=True)) / 3
    expected = dict(
        feature=feature,
        task=cross_entropy(logits[0]),
        logits=divergence,
        orthogonal=orthogonal,
        teacher=cross_entropy(logits[1]),
    )
    assert list(parts) == list(expected)
    for key, value in expected.items():
        assert parts[key].item() == pytest.approx(0.5 * value, rel=1e-9)


def test_branches_go_down_to_the_deepest_stage_which_has_none():
    loss = build()
    assert loss.branches['student']['stage0'].convs(torch.randn(2, 3, 8, 8).double()).shape == (
        (2, 5, 4, 4)
    )
    deepest = loss.branches['teacher']['stage1']
    assert deepest.classify is None and len(deepest.convs) == 0


def test_the_teachers_branches_learn_from_their_labels_alone():
    loss = build()
    student, teacher = inputs()
    parts = loss.parts(student, teacher, SAMPLES)
    sum(value for key, value in parts.items() if key != 'teacher').backward()
    assert all(p.grad is None for p in loss.branches['teacher'].parameters())
    parts['teacher'].backward()
    assert all(p.grad is not None for p in loss.branches['teacher'].parameters())


def test_what_does_not_fit():
    with pytest.raises(ValueError, match='stages of TOFDLoss must be two or more'):
        TOFDLoss(STAGES[:1], num_classes=3)
    with pytest.raises(ValueError, match='num_classes of TOFDLoss must be an integer > 1'):
        TOFDLoss(STAGES, num_classes=1)
    with pytest.raises(ValueError, match='needs alpha and beta >= 0 and tau > 0'):
        build(tau=0.0)
    with pytest.raises(UsageError, match='one data sample per image for the labels, but found 2'):
        build().parts(*inputs(), SAMPLES[:2])
    with pytest.raises(UsageError, match='num_classes of TOFDLoss is 2, but a label is 2'):
        TOFDLoss(STAGES, num_classes=2).double().parts(*inputs(), SAMPLES)
