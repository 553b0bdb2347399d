"""DIST against L_inter and L_intra of the paper, with Pearson's correlation written out in float64."""

import pytest

from dpk_mm.models.losses.dist_kd_loss import DISTKDLoss
from tests.helpers.golden_inputs import check_against_slow, logits


def correlation(x, y):
    x, y = x - x.sum() / len(x), y - y.sum() / len(y)
    return (x * y).sum() / ((x * x).sum() * (y * y).sum()).sqrt()


def slow(tau, beta, gamma):
    def formula(student, teacher):
        q, p = (z / tau for z in (student, teacher))
        q, p = (z.exp() / z.exp().sum(1, keepdim=True) for z in (q, p))
        inter = sum(1 - correlation(q[i], p[i]) for i in range(len(q))) / len(q)
        classes = q.shape[1]
        intra = sum(1 - correlation(q[:, j], p[:, j]) for j in range(classes)) / classes
        return tau**2 * (beta * inter + gamma * intra)

    return formula


@pytest.mark.parametrize(('tau', 'beta', 'gamma'), [(4.0, 2.0, 2.0), (2.0, 1.0, 0.0)])
def test_the_formula(tau, beta, gamma):
    student, teacher, _ = logits()
    check_against_slow(
        DISTKDLoss(tau=tau, beta=beta, gamma=gamma), slow(tau, beta, gamma), student, teacher
    )


def test_only_relations_count():
    """Probabilities that are a linear function of the teacher's correlate fully within each image."""
    p = logits()[1].softmax(dim=1)
    own = 0.3 * p + 0.7 / 10
    parts = DISTKDLoss().parts(own.log(), p.log())
    assert parts['inter'].item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(tau=0.0), 'tau of DISTKDLoss must be > 0'),
        (dict(gamma=float('inf')), 'gamma of DISTKDLoss must be a finite number >= 0'),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        DISTKDLoss(**options)
