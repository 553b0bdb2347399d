"""Of two hooks of a kind the user's works, whichever list it stands in."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict
from torch import nn

from dpk_mm.engine.hooks import CKAMaskRatioHook, FixedMaskRatioHook, LinearMaskRatioHook
from dpk_mm.errors import UsageError
from dpk_mm.models import DPKLoss

SIZE = dict(index=0, student_channels=4, teacher_channels=4, patch_size=1, embed_dims=8)


def make_runner(hooks, default=True):
    model = nn.Sequential(
        DPKLoss(dict(P4=dict(SIZE, encoder_depth=1, decoder_depth=1, num_heads=2, position_grid=2)))
    )
    cfg = ConfigDict(default_hooks=dict(mask_ratio=dict(type='any')) if default else {})
    return SimpleNamespace(model=model, hooks=hooks, cfg=cfg, _resume=True)


def test_the_users_hook_takes_the_place_of_the_default_one():
    default, own = CKAMaskRatioHook(samples='positions'), FixedMaskRatioHook(ratio=0.3)
    runner = make_runner([default, own])
    for hook in runner.hooks:
        hook.before_run(runner)
    loss = runner.model[0]
    assert loss.mask_ratio is own.policy
    features = (torch.rand(4, 4, 2, 2),), (torch.rand(4, 4, 2, 2),)
    loss(*features)
    assert own.policy.ratios == dict(P4=0.3)
    checkpoint = {}
    for hook in runner.hooks:
        hook.before_save_checkpoint(runner, checkpoint)
    assert checkpoint['mask_ratio']['type'] == 'FixedMaskRatio'
    default.after_load_checkpoint(runner, checkpoint)  # says nothing of a state that is not its own


@pytest.mark.parametrize('default', [True, False])
def test_two_of_the_user_are_refused(default):
    hooks = [FixedMaskRatioHook(ratio=0.3), LinearMaskRatioHook()]
    hooks = [CKAMaskRatioHook(), *hooks] if default else hooks
    with pytest.raises(UsageError, match='FixedMaskRatioHook and LinearMaskRatioHook would do the'):
        hooks[0].before_run(make_runner(hooks, default))


def test_one_hook_is_left_alone():
    hook = CKAMaskRatioHook()
    runner = make_runner([hook])
    hook.before_run(runner)
    assert runner.model[0].mask_ratio is hook.policy
