"""CWD against the divergence of two distributions written out."""

import pytest
import torch

from dpk_mm.models.losses.cwd_loss import CWDLoss
from tests.helpers.pyramid import check_against, features


def distribution(row, tau):
    exps = (row.flatten() / tau).exp()
    return exps / exps.sum()


def slow(loss, student, teacher):
    """The channel-wise divergence, of every image and channel."""
    tau, total = loss.divergence.tau, 0.0
    for level in loss.levels:
        s, t = student[level.student], teacher[level.teacher]
        if str(level.student) in loss.align:
            weight = loss.align[str(level.student)].weight[:, :, 0, 0]
            s = torch.einsum('oc,nchw->nohw', weight, s)
        n, channels = t.shape[:2]
        for i in range(n):
            for c in range(channels):
                p, q = distribution(t[i, c], tau), distribution(s[i, c], tau)
                term = tau**2 / (n * channels) * (p * (p / q).log()).sum()
                total = total + level.weight * term
    return loss.loss_weight * total


@pytest.mark.parametrize('tau', [1.0, 4.0])
@pytest.mark.parametrize('student_channels', [6, 4])
def test_value_and_gradients_equal_a_slow_formula(student_channels, tau):
    torch.manual_seed(0)
    levels = (dict(index=0, weight=0.5), 1)
    loss = CWDLoss(levels, student_channels, 6, tau=tau)
    check_against(loss, slow, features(student_channels, 1), features(6, 2))


def test_a_constant_does_not_matter():
    teacher = features(6, 2)
    loss = CWDLoss((0, 1, 2), 6, 6)
    assert loss([t + 2 for t in teacher], teacher).item() == pytest.approx(0, abs=1e-5)


def test_channels_last_features():
    student, teacher = features(6, 1), features(6, 2)
    loss = CWDLoss((0, 1, 2), 6, 6)
    other = [f.to(memory_format=torch.channels_last) for f in student]
    torch.testing.assert_close(loss(other, teacher), loss(student, teacher))


@pytest.mark.parametrize('tau', [0.0, -1.0, float('nan')])
def test_a_temperature_out_of_range(tau):
    with pytest.raises(ValueError, match=f'tau of CWDLoss must be > 0, but is {tau}'):
        CWDLoss(tau=tau)
