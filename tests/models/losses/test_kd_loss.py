"""KD against the sum over classes written out."""

import math

import pytest
import torch

import dpk_mm  # noqa: F401
from dpk_mm.models.losses.kd_loss import KDLoss
from tests.helpers.golden_inputs import logits, value_and_gradient

STUDENT = [[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]]
TEACHER = [[2.0, 0.0, -1.0], [0.5, 0.5, 4.0]]


def softmax(row, tau):
    exps = [math.exp(x / tau) for x in row]
    return [e / sum(exps) for e in exps]


def slow(tau):
    """tau^2 times the divergence of the teacher's distribution from the student's, summed."""
    total = 0.0
    for student, teacher in zip(STUDENT, TEACHER, strict=True):
        for q, p in zip(softmax(student, tau), softmax(teacher, tau), strict=True):
            total += p * (math.log(p) - math.log(q))
    return tau**2 * total


@pytest.mark.parametrize('tau', [1.0, 2.5, 4.0])
@pytest.mark.parametrize(('reduction', 'count'), [('batchmean', 2), ('sum', 1), ('mean', 6)])
def test_the_value(tau, reduction, count):
    loss = KDLoss(tau=tau, reduction=reduction, loss_weight=0.3)
    student = torch.tensor(STUDENT, requires_grad=True)
    teacher = torch.tensor(TEACHER, requires_grad=True)
    value = loss(student, teacher)
    assert value.item() == pytest.approx(0.3 * slow(tau) / count, rel=1e-5)
    assert list(loss.parts(student, teacher).values()) == [value]
    value.backward()
    # d/dz of the divergence is (q - p) / tau, times tau^2
    q, p = softmax(STUDENT[0], tau), softmax(TEACHER[0], tau)
    expected = [0.3 * tau * (a - b) / count for a, b in zip(q, p, strict=True)]
    assert student.grad[0].tolist() == pytest.approx(expected, rel=1e-4)
    assert teacher.grad is None


@pytest.mark.parametrize(
    ('tau', 'expected'), [(1.0, (4.725994, 0.344561)), (4.0, (8.001926, 0.4841367))]
)
def test_public_implementations(tau, expected):
    """mdistiller, RepDistiller and mmrazor: value, and norm of the gradient."""
    found = value_and_gradient(KDLoss(tau=tau), *logits()[:2])
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(('standardize', 'spread'), [(True, 3), ('code', 3), ('paper', 4)])
def test_standardized_logits(standardize, spread):
    """Three classes around their mean: the deviation is the root of the sum of squares over 2 or 3."""
    sides = []
    for rows in (STUDENT, TEACHER):
        sides.append([])
        for row in rows:
            mean = sum(row) / 3
            deviation = math.sqrt(sum((x - mean) ** 2 for x in row) / (spread - 1))
            sides[-1].append([(x - mean) / deviation for x in row])
    expected = KDLoss(tau=2.0)(*map(torch.tensor, sides))
    found = KDLoss(tau=2.0, standardize=standardize)
    torch.testing.assert_close(found(torch.tensor(STUDENT), torch.tensor(TEACHER)), expected)


def test_equal_logits_cost_nothing():
    x = torch.tensor(STUDENT)
    assert KDLoss(tau=3.0)(x, x + 7).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(tau=0.0), 'tau of KDLoss must be > 0, but is 0.0'),
        (dict(tau=math.nan), 'tau of KDLoss must be > 0, but is nan'),
        (dict(reduction='none'), "reduction of KDLoss must be .* but is 'none'"),
        (dict(standardize='z'), "standardize of KDLoss must be .* but is 'z'"),
        (dict(loss_weight=-1.0), 'loss_weight of KDLoss must be a finite number >= 0, but is -1.0'),
        (dict(loss_weight=math.inf), 'loss_weight of KDLoss .* but is inf'),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        KDLoss(**options)
