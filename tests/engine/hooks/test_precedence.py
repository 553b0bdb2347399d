"""Of two hooks of a kind the user's works, whichever list it stands in."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import ConfigDict
from torch import nn

from dpk_mm.engine.hooks import CKAMaskRatioHook, FixedMaskRatioHook, LinearMaskRatioHook
from dpk_mm.engine.hooks.mask_ratio_hook import MaskRatioHook
from dpk_mm.engine.hooks.precedence import gives_way
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


def test_a_hook_of_the_user_with_a_higher_priority_works():
    """The runner's hooks are sorted by priority, so it stands before the default one."""
    own, default = FixedMaskRatioHook(ratio=0.3), CKAMaskRatioHook(samples='positions')
    runner = make_runner([own, default])
    for kind in ('mmrazor.CKAMaskRatioHook', CKAMaskRatioHook):
        runner.cfg.default_hooks.mask_ratio.type = kind
        assert gives_way(default, MaskRatioHook, 'mask_ratio', runner)
        assert not gives_way(own, MaskRatioHook, 'mask_ratio', runner)
    for hook in runner.hooks:
        hook.before_run(runner)
    assert runner.model[0].mask_ratio is own.policy


def test_of_two_hooks_of_the_default_s_type_the_first_gives_way():
    first, second = FixedMaskRatioHook(ratio=0.3), FixedMaskRatioHook(ratio=0.4)
    runner = make_runner([first, second])
    runner.cfg.default_hooks.mask_ratio.type = 'mmrazor.FixedMaskRatioHook'
    assert gives_way(first, MaskRatioHook, 'mask_ratio', runner)
    assert not gives_way(second, MaskRatioHook, 'mask_ratio', runner)


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
