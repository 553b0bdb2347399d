import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from dpk_mm.errors import UsageError
from tools.experiments.shares import EqualShareHook


class Toy(BaseModel):
    """Losses whose gradients on w are known: (3, 4) of the student's own, (0, 10) and (2, 0) of two others."""

    def __init__(self):
        super().__init__()
        self.student = nn.Module()
        self.student.w = nn.Parameter(torch.ones(2))

    def forward(self, scale=1.0):
        w = self.student.w
        return {
            'student.loss_cls': 3 * w[0] + 4 * w[1],
            'distill.loss_a': 10 * scale * w[1],
            'distill.loss_b.one': 2 * scale * w[0],
            'distill.loss_none': 0 * w.sum(),
        }


def start(names):
    model = Toy()
    hook = EqualShareHook(names)
    hook.before_train(SimpleNamespace(model=model))
    return model, hook


def test_each_loss_gets_an_equal_part_of_the_norm_of_the_students_own():
    model, hook = start(['loss_a', 'loss_b'])
    model.parse_losses(model())
    # the student's own norm is 5, half of it for each
    assert hook.factors() == pytest.approx({'loss_a': 0.25, 'loss_b': 1.25})


def test_factors_are_geometric_means_over_the_batches():
    model, hook = start(['loss_a'])
    for scale in (1.0, 4.0):
        model.parse_losses(model(scale))
    assert hook.factors()['loss_a'] == pytest.approx(math.sqrt(0.5 * 0.125))


def test_the_training_is_that_with_the_measured_factors():
    model, _ = start(['loss_a', 'loss_b'])
    total, logs = model.parse_losses(model())
    gradient = torch.autograd.grad(total, model.student.w)[0]
    torch.testing.assert_close(gradient, torch.tensor([3 + 1.25 * 2, 4 + 0.25 * 10]))
    assert logs['distill.loss_a'].item() == pytest.approx(2.5)


def test_a_loss_without_a_gradient_has_no_share():
    model, hook = start(['loss_none'])
    model.parse_losses(model())
    with pytest.raises(UsageError, match='loss_none has no gradient'):
        hook.factors()
