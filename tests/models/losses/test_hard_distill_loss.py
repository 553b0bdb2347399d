"""Hard distillation against Eq. 3 of DeiT, written out in float64."""

import pytest

from dpk_mm.models.losses.hard_distill_loss import HardDistillLoss
from tests.helpers.golden_inputs import check_against_slow, logits


def slow(student, teacher):
    total = 0.0
    for s, t in zip(student, teacher.tolist(), strict=True):
        total = total - (s[t.index(max(t))].exp() / s.exp().sum()).log()
    return 0.5 * total / len(student)


def test_the_formula():
    student, teacher, _ = logits()
    check_against_slow(HardDistillLoss(loss_weight=0.5), slow, student, teacher)


@pytest.mark.parametrize('value', ['nan', 'inf'])
def test_a_teacher_without_a_decision_is_no_label(value):
    student, teacher, _ = logits()
    teacher[3, 2] = float(value)
    assert HardDistillLoss()(student, teacher).isnan()
