"""DKD against public implementations, its two terms written out, and its warm-up."""

import math

import pytest
import torch
from mmrazor.models.losses import DKDLoss

from dpk_mm.errors import UsageError
from dpk_mm.models.losses.decoupled_kd_loss import DecoupledKDLoss
from tests.helpers.golden_inputs import check_against_slow, logits, samples, value_and_gradient

# (tau, alpha, beta): value and norm of the gradient, of mdistiller and mmrazor
GOLDEN = {
    (4.0, 1.0, 8.0): (60.94605, 3.989774),
    (4.0, 1.0, 2.0): (16.23566, 1.016971),
    (1.0, 1.0, 0.5): (3.100391, 0.2291591),
    (4.0, 1.0, 0.0): (1.332191, 0.1725198),
    (4.0, 0.0, 1.0): (7.451733, 0.4972984),
}


def slow(labels, tau, alpha, beta):
    """Eq. 7 of the paper, image by image."""

    def formula(student, teacher):
        total = 0.0
        for s, t, label in zip(student / tau, teacher / tau, labels.tolist(), strict=True):
            q, p = s.exp() / s.exp().sum(), t.exp() / t.exp().sum()
            for a, b in ((p[label], q[label]), (1 - p[label], 1 - q[label])):
                total = total + alpha * a * (a / b).log()
            for i in range(len(p)):
                if i != label:
                    a, b = p[i] / (1 - p[label]), q[i] / (1 - q[label])
                    total = total + beta * a * (a / b).log()
        return tau**2 * total / len(student)

    return formula


@pytest.mark.parametrize('setting', GOLDEN, ids=str)
def test_public_implementations(setting):
    tau, alpha, beta = setting
    student, teacher, labels = logits()
    loss = DecoupledKDLoss(tau=tau, alpha=alpha, beta=beta)
    found = value_and_gradient(loss, student, teacher, samples(labels))
    assert found == pytest.approx(GOLDEN[setting], rel=1e-5)


@pytest.mark.parametrize('setting', [(4.0, 1.0, 8.0), (1.5, 0.3, 0.7)], ids=str)
def test_the_formula(setting):
    student, teacher, labels = logits()
    loss = DecoupledKDLoss(*setting)
    check_against_slow(loss, slow(labels, *setting), student, teacher, samples(labels))


def test_with_beta_as_in_kd_it_is_kd():
    """Eq. 6: KD is TCKD plus (1 - p_t) NCKD; for one image that is a factor."""
    student, teacher, labels = (x[:1] for x in logits())
    p = (teacher / 2).softmax(dim=1)
    kd = 4 * (p * (p.log() - (student / 2).log_softmax(dim=1))).sum()
    beta = 1 - p[0, labels[0]].item()
    found = DecoupledKDLoss(tau=2.0, beta=beta)(student, teacher, samples(labels))
    torch.testing.assert_close(found, kd)


def test_a_student_that_is_very_sure():
    student, teacher = torch.tensor([[300.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0, 2.0]])
    labels = torch.tensor([0])
    assert math.isinf(DKDLoss(tau=1.0)(student, teacher, labels).item())
    # the target's logit is 299 above those of the others, which the teacher gives the rest of its probability
    rest = 1 - teacher.softmax(dim=1)[0, 0].item()
    loss = DecoupledKDLoss(tau=1.0, beta=0.0)
    assert loss(student, teacher, samples(labels)).item() == pytest.approx(299 * rest, rel=0.01)
    value, gradient = value_and_gradient(loss, student, teacher, samples(labels))
    assert math.isfinite(value) and 0 < gradient < 10


@pytest.mark.parametrize(('standardize', 'correction'), [(True, 1), ('code', 1), ('paper', 0)])
def test_standardized_logits(standardize, correction):
    student, teacher, labels = logits()
    sides = [
        (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True, correction=correction)
        for x in (student, teacher)
    ]
    expected = DecoupledKDLoss(tau=2.0)(*sides, samples(labels))
    found = DecoupledKDLoss(tau=2.0, standardize=standardize)
    torch.testing.assert_close(found(student, teacher, samples(labels)), expected)
    torch.testing.assert_close(found(3 * student + 1, teacher, samples(labels)), expected)


def test_the_warm_up_is_a_factor():
    student, teacher, labels = logits()
    full = DecoupledKDLoss()(student, teacher, samples(labels))
    loss = DecoupledKDLoss(warmup=20)
    with pytest.raises(UsageError, match='has a warm-up of 20 passes, but no hook says'):
        loss(student, teacher, samples(labels))
    for done, factor in ((0, 0.05), (9, 0.5), (19, 1.0), (100, 1.0)):
        loss.warmup.done = done
        torch.testing.assert_close(loss(student, teacher, samples(labels)), factor * full)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(tau=0.0), 'tau of DecoupledKDLoss must be > 0'),
        (dict(alpha=-1.0), 'alpha of DecoupledKDLoss must be a finite number >= 0, but is -1.0'),
        (dict(beta=math.nan), 'beta of DecoupledKDLoss must be a finite number >= 0, but is nan'),
        (dict(warmup=1.5), 'warmup of DecoupledKDLoss must be a whole number of passes'),
        (dict(standardize='yes'), "standardize of DecoupledKDLoss must be .* but is 'yes'"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        DecoupledKDLoss(**options)
