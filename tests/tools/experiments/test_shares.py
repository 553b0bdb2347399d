import math
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import nn

from dpk_mm.errors import UsageError
from tools.experiments import shares
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
    with pytest.raises(UsageError, match='loss_none has no finite gradient'):
        hook.factors()


class Half(Toy):
    """A loss whose gradient is less than the smallest number of float16, as features in it pass it on."""

    def forward(self, own=1.0):
        w = self.student.w
        return {'student.loss_cls': own * w[0], 'distill.loss_a': 1e-8 * w.half().float()[1]}


def scaled_start(scale):
    model, hook = Half(), EqualShareHook(['loss_a'])
    wrapper = SimpleNamespace(loss_scaler=SimpleNamespace(get_scale=lambda: scale))
    hook.before_train(SimpleNamespace(model=model, optim_wrapper=wrapper))
    return model, hook


def test_gradients_in_half_precision_are_measured_with_the_factor_of_the_training():
    model, hook = scaled_start(2.0**16)
    model.parse_losses(model())
    assert hook.factors()['loss_a'] == pytest.approx(1e8, rel=1e-3)
    model, hook = scaled_start(1.0)  # it vanishes, and is no share of 0
    model.parse_losses(model())
    with pytest.raises(UsageError, match='no finite gradient'):
        hook.factors()


def test_an_overflow_is_left_out():
    model, hook = scaled_start(2.0**16)
    model.parse_losses(model(float('inf')))
    model.parse_losses(model())
    assert hook.factors()['loss_a'] == pytest.approx(1e8, rel=1e-3)


def config(**kwargs):
    losses = dict(loss_a=dict(loss_weight=2.0, warmup=5, module_warmup=100))
    return Config(
        dict(
            model=dict(architecture={}, distiller=dict(distill_losses=losses)),
            train_cfg=dict(by_epoch=True, max_epochs=12),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=500),
                dict(type='CosineAnnealingLR', begin=2),
            ],
            default_hooks={},
            **kwargs,
        )
    )


def test_the_schedule_of_the_training_is_kept_and_warm_ups_of_losses_are_not(monkeypatch):
    model, built = Toy(), []

    def build_runner(cfg):
        hooks = []
        built.append(cfg)
        runner = SimpleNamespace(model=model, register_hook=hooks.append)

        def train():
            hooks[0].before_train(runner)
            model.parse_losses(model())

        runner.train = train
        return runner

    monkeypatch.setattr(shares, 'build_runner', build_runner)
    found = shares.measure(config(), 48)
    assert found == dict(
        factors=pytest.approx(dict(loss_a=0.5)), published=pytest.approx(dict(loss_a=2)), batches=48
    )
    (cfg,) = built
    assert cfg.train_cfg.max_iters == 48
    assert [s.end for s in cfg.param_scheduler] == [500, 12]
    loss = cfg.model.distiller.distill_losses.loss_a
    assert (loss.warmup, loss.module_warmup) == (0, None)


def test_a_hook_that_weighs_a_loss_itself_leaves_nothing_to_measure():
    hook = dict(type='mmrazor.GradientShareHook', share=0.3)
    with pytest.raises(UsageError, match='take it out of custom_hooks'):
        shares.measure(config(custom_hooks=[hook]), 48)
    # where the pages tell users to put it
    by_key = config()
    by_key.default_hooks = dict(timer=None, gradient_share=hook)
    with pytest.raises(UsageError, match=r'take it out of default_hooks\.gradient_share'):
        shares.measure(by_key, 48)
