import math

import pytest
from mmengine.config import Config

from dpk_mm.cli.distill.gradient_share import scaled_weights, summary, without_warmup
from dpk_mm.errors import UsageError


def test_the_share_of_one_loss():
    found = summary(
        {
            'gradient/student': [1.0, 2.0, 4.0],
            'gradient/distill.dpk': [3.0, 2.0, 8.0],
            'gradient/distill.dpk.foreground': [9.0, 9.0, 9.0],  # a part, which the whole has in it
            'gradient_cosine/distill.dpk': [0.1, -0.3, 0.2],
        },
        ['loss_dpk'],
    )
    assert found == dict(share=2.0, shares=dict(loss_dpk=2.0), cosine=dict(dpk=0.1), batches=3)


def test_several_losses_together_and_apart():
    found = summary(
        {
            'gradient/student': [1.0, 1.0],
            'gradient/distill.kd': [3.0, 6.0],
            'gradient/distill.dpk': [4.0, 8.0],
        },
        ['loss_kd', 'loss_dpk'],
    )
    assert found['share'] == pytest.approx((5 + 10) / 2)
    assert found['shares'] == dict(loss_kd=4.5, loss_dpk=6.0)


def test_batches_without_a_gradient_of_the_student_do_not_count():
    history = {'gradient/student': [0.0, 2.0, math.nan], 'gradient/distill.kd': [1.0, 1.0, 1.0]}
    assert summary(history, ['loss_kd'])['share'] == 0.5


@pytest.mark.parametrize(
    ('student', 'distill', 'words'),
    [
        ([1.0], [0.0], 'loss_kd sends none'),
        ([0.0], [1.0], "the student's own losses have none"),
        ([1.0], [math.nan], 'none is finite in any batch'),
    ],
)
def test_no_share(student, distill, words):
    with pytest.raises(UsageError, match=words):
        summary({'gradient/student': student, 'gradient/distill.kd': distill}, ['loss_kd'])


def test_losses_are_measured_with_their_whole_weight():
    """The first of DKD's 20 passes has a twentieth of it, by which all weights would be too large."""
    losses = dict(
        loss_dkd=dict(type='DecoupledKDLoss', warmup=20),
        loss_dpk=dict(type='DPKLoss', module_warmup=dict(iterations=100)),
        loss_kd=None,
    )
    cfg = Config(dict(model=dict(distiller=dict(distill_losses=losses))))
    assert without_warmup(cfg).model.distiller.distill_losses == dict(
        loss_dkd=dict(type='DecoupledKDLoss', warmup=0),
        loss_dpk=dict(type='DPKLoss', module_warmup=None),
        loss_kd=None,
    )
    assert cfg.model.distiller.distill_losses.loss_dkd.warmup == 20


def test_each_loss_gets_an_equal_part():
    weights, shares = dict(loss_kd=0.5, loss_dpk=2.0), dict(loss_kd=0.25, loss_dpk=0.001)
    assert scaled_weights(weights, shares, wanted=1.0) == dict(loss_kd=1.0, loss_dpk=1000.0)
    assert scaled_weights(dict(loss_kd=0.5), shares, wanted=1.0) == dict(loss_kd=2.0)
