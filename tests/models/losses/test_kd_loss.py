import math

import pytest
import torch

from dpk_mm.models.losses import KDLoss


def divergence(student, teacher, tau):
    """The formula, number by number in float64."""
    total = 0.0
    for s, t in zip(student.double().tolist(), teacher.double().tolist(), strict=True):
        p, q = ([math.exp(x / tau) for x in row] for row in (t, s))
        p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return tau**2 * total


@pytest.mark.parametrize('tau', [1.0, 4.0])
@pytest.mark.parametrize(('reduction', 'share'), [('batchmean', 5), ('sum', 1), ('mean', 5 * 7)])
def test_value(tau, reduction, share):
    g = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(5, 7, generator=g) for _ in range(2))
    loss = KDLoss(tau, reduction, loss_weight=0.8)
    expected = 0.8 * divergence(student, teacher, tau) / share
    assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_it_is_zero_for_equal_logits_and_for_logits_moved_by_a_constant():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert KDLoss(2.0)(logits, logits + 5).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(tau=0), 'tau of KDLoss must be > 0, but is 0'),
        (dict(reduction='none'), 'reduction of'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        KDLoss(**arguments)
