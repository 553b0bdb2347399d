"""What is logged of each feature."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmrazor.registry import HOOKS, MODELS
from torch import nn

from dpk_mm.errors import UsageError
from dpk_mm.functional.feature_error import error_and_variance
from dpk_mm.modules import FixedMaskRatio
from tests.helpers.toy_distillation import PullLoss, Toy, runner_of, scalars


def probe(model, **kwargs):
    hook = HOOKS.build(dict(type='mmrazor.LossGradientHook', by_level=True, **kwargs))
    runner = runner_of(model)
    hook.before_train(runner)
    return hook, runner


def test_shares_and_cosines_of_every_feature():
    model = Toy(dict(loss_x=PullLoss([1.5, -2.0], names=True), loss_y=PullLoss([0.0, 8.0])))
    hook, runner = probe(model)
    model.distiller.gate('loss_y').factors['feats[1]'] = 0.25  # as GradientShareHook does
    hook.before_train_iter(runner, 0)
    model.parse_losses(model(torch.ones(2, 3)))
    found = scalars(runner)
    assert found['gradient_share/distill.x.feats[0]'] == pytest.approx(0.5)
    assert found['gradient_share/distill.x.P5'] == pytest.approx(0.5)
    assert found['gradient_cosine/distill.x.P5'] == pytest.approx(-1.0)
    assert found['gradient_share/distill.y.feats[0]'] == 0.0
    assert found['gradient_share/distill.y.feats[1]'] == pytest.approx(0.5)
    assert found['gradient/student'] > 0  # what the hook logs without
    hook.after_train_iter(runner, 0)
    assert model.distiller.gate('loss_x').seen == {}
    hook.after_train(runner)


def test_a_loss_behind_a_connector_is_refused():
    model = Toy(dict(loss_x=PullLoss([1.0, 1.0])))
    mapping = model.distiller.loss_forward_mappings['loss_x']
    mapping['student_feats']['connector'] = 'conv'
    with pytest.raises(UsageError, match='LossGradientHook by_level compares .*loss_x gets stu'):
        probe(model)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.body(x)


def test_errors_of_the_student_and_of_the_hybrid():
    init_default_scope('mmrazor')
    torch.manual_seed(0)
    sizes = dict(embed_dims=8, encoder_depth=1, decoder_depth=1, num_heads=2, position_grid=2)
    stage = dict(index=0, student_channels=4, teacher_channels=4, **sizes)
    model = nn.Module()
    model.student = Net()
    model.distiller = MODELS.build(
        dict(
            type='DPKDistiller',
            records=dict(feats='body'),
            distill_losses=dict(loss_dpk=dict(type='DPKLoss', transforms=dict(P4=stage))),
        )
    )
    teacher = Net()
    model.distiller.prepare_from_student(model.student)
    model.distiller.prepare_from_teacher(teacher)
    model.distiller.distill_losses.loss_dpk.mask_ratio = FixedMaskRatio(0.5)
    model.parse_losses = lambda losses: losses
    hook, runner = probe(model)
    x = torch.randn(2, 3, 2, 2)

    def losses():
        with model.distiller.student_recorders, model.distiller.teacher_recorders:
            feature, target = model.student(x), teacher(x).detach()
        torch.manual_seed(5)
        return feature, target, model.distiller.compute_distill_losses()

    model.distiller.loss_forward_mappings['loss_dpk'].pop('data_samples', None)
    hook.before_train_iter(runner, 0)
    feature, target, found = losses()
    model.parse_losses(
        {'student.loss': feature.sum(), **{f'distill.{k}': v for k, v in found.items()}}
    )
    logged = scalars(runner)
    error, variance = error_and_variance(feature, target)
    assert logged['feature_distance/P4'] == pytest.approx((error / variance).item())
    # the loss is the mean squared error of the hybrid
    mean = found['loss_dpk.P4'].item()
    assert logged['hybrid_error/P4'] == pytest.approx(mean * target.numel() / variance.item())
    hook.after_train(runner)
    assert not model.distiller.distill_losses.loss_dpk.transforms.P4._forward_hooks


def test_a_distiller_of_mmrazor_is_refused():
    with pytest.raises(
        UsageError, match='LossGradientHook by_level looks at the features of a DPK'
    ):
        model = Toy(dict(loss_x=PullLoss([1.0, 1.0])))
        model.distiller = nn.Identity()
        probe(model)
