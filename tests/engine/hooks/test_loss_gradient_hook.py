import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmrazor.registry import HOOKS
from torch import nn

from dpk_mm.engine.hooks.loss_gradient_hook import loss_gradients
from dpk_mm.errors import UsageError


class Toy(BaseModel):
    """Losses whose gradients are known: on w, (3, 4) of the student's own, (0, -2 x 5) of the distillation."""

    def __init__(self):
        super().__init__()
        self.student = nn.Module()
        self.student.backbone = nn.Module()
        self.student.backbone.w = nn.Parameter(torch.tensor([1.0, 1.0]))
        self.student.head = nn.Module()
        self.student.head.v = nn.Parameter(torch.tensor([2.0]))
        self.student.fixed = nn.Parameter(torch.ones(3), requires_grad=False)
        self.distiller = nn.Linear(1, 1)

    def forward(self, factor):
        w, v = self.student.backbone.w, self.student.head.v
        return {
            'student.loss_cls': [3 * w[0], 4 * w[1]],  # levels
            'student.loss_bbox': 12 * v.repeat(7),  # a mean
            'student.acc': w.sum() * 1e6,
            'distill.loss_feat': -2 * factor * w[1] + self.distiller.weight.sum() * 1e6,
            'distill.none_loss': self.distiller.bias.sum(),
        }


def runner(model):
    return SimpleNamespace(model=model, iter=0, message_hub=MessageHub('loss_gradient_hook'))


def build(**kwargs):
    return HOOKS.build(dict(type='mmrazor.LossGradientHook', **kwargs))


def scalars(run):
    return {
        key.removeprefix('train/'): value.current()
        for key, value in run.message_hub.log_scalars.items()
    }


def test_norms_and_cosines_of_known_gradients():
    model = Toy()
    losses = model(5.0)
    found = loss_gradients(losses, [model.student.backbone.w, model.student.head.v])
    assert found['gradient/student'] == pytest.approx(13.0)  # (3, 4, 12)
    assert found['gradient/distill.feat'] == pytest.approx(10.0)  # (0, -10, 0)
    assert found['gradient_cosine/distill.feat'] == pytest.approx(-4 / 13)
    assert found['gradient/distill.none'] == found['gradient_cosine/distill.none'] == 0.0
    assert set(found) == {
        'gradient/student',
        'gradient/distill.feat',
        'gradient_cosine/distill.feat',
        'gradient/distill.none',
        'gradient_cosine/distill.none',
    }
    # the graph is still there, and no gradient was left behind
    assert all(p.grad is None for p in model.parameters())
    model.parse_losses(losses)[0].backward()
    assert model.student.backbone.w.grad.tolist() == [3.0, -6.0]


def test_parts_of_a_loss_and_their_sum():
    model = Toy()
    w = model.student.backbone.w
    losses = {
        'student.loss': w[0],
        'distill.loss_feat.foreground': 3 * w[0] + 4 * w[1],
        'distill.loss_feat.background': -3 * w[0],
    }
    assert loss_gradients(losses, [w]) == pytest.approx(
        {
            'gradient/student': 1.0,
            'gradient/distill.feat': 4.0,  # (3, 4) + (-3, 0)
            'gradient/distill.feat.foreground': 5.0,
            'gradient/distill.feat.background': 3.0,
            'gradient_cosine/distill.feat': 0.0,
        }
    )


def test_a_constant_loss_has_no_gradient():
    model = Toy()
    w = model.student.backbone.w
    found = loss_gradients({'student.loss': w.sum(), 'distill.loss_kd': torch.tensor(7.0)}, [w])
    assert found['gradient/student'] == pytest.approx(math.sqrt(2))
    assert found['gradient/distill.kd'] == found['gradient_cosine/distill.kd'] == 0.0


def test_without_losses_of_the_student_there_is_no_cosine():
    model = Toy()
    w = model.student.backbone.w
    assert loss_gradients({'distill.loss_kd': 2 * w[0]}, [w]) == {'gradient/distill.kd': 2.0}


def test_measures_at_the_interval_and_leaves_the_training_as_it_is():
    model = Toy()
    run = runner(model)
    hook = build(interval=2, part='backbone')
    hook.before_train(run)
    seen = []
    for run.iter, factor in enumerate((5.0, 50.0, 7.0)):
        total, log_vars = model.parse_losses(model(factor))
        expected, plain = Toy.parse_losses(model, model(factor))
        assert total.item() == expected.item()
        assert list(log_vars) == list(plain)
        seen.append(scalars(run)['gradient/distill.feat'])
    assert seen == pytest.approx([10.0, 10.0, 14.0])
    assert scalars(run)['gradient/student'] == pytest.approx(5.0)  # (3, 4), without the head
    assert scalars(run)['gradient_cosine/distill.feat'] == pytest.approx(-0.8)
    hook.after_train(run)
    assert 'parse_losses' not in vars(model)
    run.iter = 4
    model.parse_losses(model(1.0))
    assert scalars(run)['gradient/distill.feat'] == pytest.approx(14.0)


@pytest.mark.parametrize('interval', [0, -1, 1.5, True, '10'])
def test_bad_intervals(interval):
    with pytest.raises(UsageError, match='interval must be a whole number of at least 1'):
        build(interval=interval)


def test_a_model_without_a_student_is_refused():
    with pytest.raises(UsageError, match='the model is a Linear without a student'):
        build().before_train(runner(nn.Linear(1, 1)))


def test_a_part_that_is_not_there_lists_those_that_are():
    # `back` is the beginning of a word, not of a module; `fixed` is not trained
    for part in ('back', 'neck', 'fixed'):
        expected = (
            f"part is '{part}', but the trainable parameters of the student are in backbone, head"
        )
        with pytest.raises(UsageError, match=expected):
            build(part=part).before_train(runner(Toy()))
