"""NKD against L_nkd of the paper, written out image by image in float64."""

import pytest
import torch

from dpk_mm.models.losses.nkd_loss import NKDLoss
from tests.helpers.golden_inputs import check_against_slow, logits, samples


def slow(labels, tau, gamma):
    def formula(student, teacher):
        total = 0.0
        for s, t, label in zip(student, teacher, labels.tolist(), strict=True):
            q, p = s.exp() / s.exp().sum(), t.exp() / t.exp().sum()
            total = total - p[label] * q[label].log()
            others = [i for i in range(len(s)) if i != label]
            q, p = ((x[others] / tau).exp() for x in (s, t))
            for a, b in zip(p / p.sum(), q / q.sum(), strict=True):
                total = total - gamma * tau**2 * a * b.log()
        return total / len(student)

    return formula


@pytest.mark.parametrize(('tau', 'gamma'), [(1.0, 1.5), (3.0, 3.5)])
def test_the_formula(tau, gamma):
    student, teacher, labels = logits()
    loss = NKDLoss(tau=tau, gamma=gamma)
    check_against_slow(loss, slow(labels, tau, gamma), student, teacher, samples(labels))


def test_parts():
    student, teacher, labels = logits()
    parts = NKDLoss(gamma=0.0, loss_weight=2.0).parts(student, teacher, samples(labels))
    assert parts['others'] == 0
    p = teacher.softmax(1)[range(8), labels]
    expected = -2 * (p * student.log_softmax(1)[range(8), labels]).mean()
    torch.testing.assert_close(parts['target'], expected)


def test_the_gradient_ends_where_the_others_agree():
    """The others' term has its least value where the logits of the others differ by a constant."""
    student, _, labels = logits()
    student.requires_grad_()
    teacher = student.detach() + torch.nn.functional.one_hot(labels, 10) * 5.0 + 2.0
    NKDLoss().parts(student, teacher, samples(labels))['others'].backward()
    torch.testing.assert_close(student.grad, torch.zeros_like(student), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(tau=-1.0), 'tau of NKDLoss must be > 0'),
        (dict(gamma=-0.5), 'gamma of NKDLoss must be a finite number >= 0, but is -0.5'),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        NKDLoss(**options)
