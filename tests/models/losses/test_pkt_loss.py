"""PKT against public implementations and its sum written out."""

import pytest
import torch

from dpk_mm.errors import UsageError
from dpk_mm.models.losses.pkt_loss import PKTLoss
from tests.helpers.golden_inputs import check_against_slow, pooled, value_and_gradient


def slow(student, teacher):
    def probabilities(x):
        rows = []
        for a in x:
            cosines = [(a * b).sum() / ((a * a).sum() * (b * b).sum()).sqrt() for b in x]
            row = torch.stack([(c + 1) / 2 for c in cosines])
            rows.append(row / row.sum())
        return torch.stack(rows)

    q, p = probabilities(student), probabilities(teacher)
    n = len(student)
    return sum(
        p[i, j] * ((p[i, j] + 1e-7) / (q[i, j] + 1e-7)).log() for i in range(n) for j in range(n)
    ) / (n * n)


def test_public_implementations():
    """mdistiller, RepDistiller and torchdistill."""
    found = value_and_gradient(PKTLoss(), *pooled())
    assert found == pytest.approx((0.005163018, 0.002340509), rel=1e-5)


def test_the_formula():
    check_against_slow(PKTLoss(), slow, *pooled())


def test_an_image_without_features():
    student, teacher = pooled()
    student[2] = 0.0
    value, gradient = value_and_gradient(PKTLoss(), student, teacher)
    assert 0 < value < 1 and gradient > 0


def test_one_image_has_no_neighbour():
    with pytest.raises(UsageError, match='PKTLoss .* needs 2 at least, but the batch has 1'):
        PKTLoss()(*(x[:1] for x in pooled()))
