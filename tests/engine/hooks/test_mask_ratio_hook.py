import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from mmrazor.registry import HOOKS
from torch import nn

from dpk_mm.functional import minibatch_cka
from dpk_mm.models import DPKLoss


def loss():
    size = dict(
        student_channels=4, teacher_channels=6, embed_dims=8, encoder_depth=1, decoder_depth=1
    )
    return DPKLoss(transforms=dict(P4=dict(index=0, num_heads=2, position_grid=4, **size)))


def runner(model, resume=True):
    return SimpleNamespace(
        model=model,
        epoch=0,
        _resume=resume,
        message_hub=MessageHub('mask_ratio_hook'),
        logger=logging.getLogger('mask_ratio_hook'),
    )


def build(name, **kwargs):
    # with the scope: another test may have made mmdet's the default one
    return HOOKS.build(dict(type=f'mmrazor.{name}', **kwargs))


@pytest.fixture
def feats():
    torch.manual_seed(0)
    teacher = torch.randn(6, 6, 4, 4)
    return (teacher[:, :4] + 1.0 * torch.randn(6, 4, 4, 4),), (teacher,)


def test_binds_logs_saves_and_restores(feats):
    hook, model = build('CKAMaskRatioHook'), nn.Sequential(loss())
    run = runner(model)
    hook.before_run(run)
    assert model[0].mask_ratio is hook.policy
    hook.before_train_epoch(run)
    model[0](*feats)
    hook.after_train_iter(run, 0)
    cka = minibatch_cka(feats[0][0], feats[1][0]).item()
    assert 0.1 < cka < 0.9
    scalars = run.message_hub.log_scalars
    assert scalars['train/similarity/P4'].current() == pytest.approx(cka)
    assert scalars['train/mask_ratio/P4'].current() == pytest.approx(1 - cka)

    checkpoint = {}
    hook.before_save_checkpoint(run, checkpoint)
    fresh = build('CKAMaskRatioHook')
    fresh.after_load_checkpoint(runner(model, resume=False), checkpoint)
    assert fresh.policy.ratios == {}  # load_from starts a new schedule
    fresh.after_load_checkpoint(run, checkpoint)
    assert fresh.policy.ratios == pytest.approx({'P4': 1 - cka})


def test_schedules_follow_the_epoch(feats):
    hook, model = build('LinearMaskRatioHook', initial=0.9, decrement=0.1), nn.Sequential(loss())
    run = runner(model)
    hook.before_run(run)
    for epoch, ratio in ((0, 0.9), (3, 0.6), (20, 0.1)):
        run.epoch = epoch
        hook.before_train_epoch(run)
        model[0](*feats)
        assert hook.policy.ratios == pytest.approx({'P4': ratio})


@pytest.mark.parametrize(
    ('name', 'arguments', 'message'),
    [
        ('FixedMaskRatioHook', dict(ratio=1.5), r'FixedMaskRatioHook: ratio must be in \[0, 1\]'),
        ('CKAMaskRatioHook', dict(samples='pixels'), 'samples must be one of'),
        ('CKAMaskRatioHook', dict(min_rato=0.1), 'min_rato'),
        ('CosineMaskRatioHook', dict(min_ratio=0.9, max_ratio=0.2), 'must not exceed'),
        ('ExponentialMaskRatioHook', dict(decay=2), 'decay must be in'),
    ],
)
def test_bad_arguments_name_the_hook(name, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        build(name, **arguments)
    assert name in str(error.value)


def test_a_model_without_dpk_is_refused():
    with pytest.raises(ValueError, match='the model has no DPKLoss'):
        build('CKAMaskRatioHook').before_run(runner(nn.Linear(1, 1)))


def test_the_state_of_another_policy_is_ignored(caplog):
    checkpoint = {}
    build('FixedMaskRatioHook').before_save_checkpoint(None, checkpoint)
    hook = build('CKAMaskRatioHook')
    with caplog.at_level(logging.WARNING):
        hook.after_load_checkpoint(runner(None), checkpoint)
    assert 'made with FixedMaskRatio' in caplog.text
