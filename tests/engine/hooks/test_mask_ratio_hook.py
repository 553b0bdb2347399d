import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from mmrazor.registry import HOOKS
from torch import nn

from dpk_mm.errors import UsageError
from dpk_mm.functional import minibatch_cka
from dpk_mm.models import DPKLoss


def loss(*stages):
    size = dict(
        student_channels=4, teacher_channels=6, embed_dims=8, encoder_depth=1, decoder_depth=1
    )
    size.update(index=0, num_heads=2, position_grid=4)
    return DPKLoss(transforms=dict.fromkeys(stages or ('P4',), size))


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
        (
            'CKAMaskRatioHook',
            dict(min_rato=0.1),
            'no argument min_rato; did you mean min_ratio. It',
        ),
        ('FixedMaskRatioHook', dict(zzz=1), 'no argument zzz. It has ratio'),
        ('CKAMaskRatioHook', dict(window=0), 'window must be a whole number of at least 1'),
        ('CosineMaskRatioHook', dict(momentum=1), r'momentum must be in \[0, 1\), but is 1'),
        ('FixedMaskRatioHook', dict(ratio=dict(P4=-1)), r'ratio.P4 must be in \[0, 1\]'),
    ],
)
def test_bad_arguments_name_the_hook(name, arguments, message):
    with pytest.raises(UsageError, match=message) as error:
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


def test_numbers_by_stage_are_compared_with_the_model_before_training(feats):
    model = nn.Sequential(loss('P4', 'P5'))
    hook = build('FixedMaskRatioHook', ratio=dict(P4=0.5))
    expected = (
        'FixedMaskRatioHook: ratio has entries for P4, but the stages of the model are P4, P5'
    )
    with pytest.raises(UsageError, match=expected):
        hook.before_run(runner(model))
    hook = build('FixedMaskRatioHook', ratio=dict(P4=0.5, P5=0.25))
    run = runner(model)
    hook.before_run(run)
    model[0](*feats)
    hook.after_train_iter(run, 0)
    scalars = run.message_hub.log_scalars
    assert scalars['train/mask_ratio/P4'].current() == 0.5
    assert scalars['train/mask_ratio/P5'].current() == 0.25


def test_a_window_goes_through_a_checkpoint(feats, tmp_path):
    (student,), (teacher,) = feats
    batches = [((student + i * teacher[:, :4],), (teacher,)) for i in range(4)]
    model, run = nn.Sequential(loss()), runner(None)
    hook = build('CKAMaskRatioHook', window=3)
    hook.before_run(runner(model))
    for batch in batches[:3]:
        model[0](*batch)
    checkpoint = {}
    hook.before_save_checkpoint(run, checkpoint)
    torch.save(checkpoint, tmp_path / 'c.pth')
    fresh = build('CKAMaskRatioHook', window=3)
    loaded = torch.load(tmp_path / 'c.pth', weights_only=True)
    fresh.after_load_checkpoint(run, loaded)
    model[0](*batches[3])
    resumed = nn.Sequential(loss())
    fresh.before_run(runner(resumed))
    resumed[0](*batches[3])
    assert fresh.policy.state_dict() == hook.policy.state_dict()
    assert len(fresh.policy.state_dict()['history']['P4']['values']) == 3


def test_two_losses_must_not_mix_what_is_averaged():
    model = nn.Sequential(loss('P4'), loss('P4'))
    with pytest.raises(UsageError, match='the stage P4 is in more than one DPKLoss'):
        build('CKAMaskRatioHook', momentum=0.9).before_run(runner(model))
    build('CKAMaskRatioHook').before_run(runner(model))
    model = nn.Sequential(loss('P4'), loss('P5'))
    build('CKAMaskRatioHook', window=2).before_run(runner(model))
