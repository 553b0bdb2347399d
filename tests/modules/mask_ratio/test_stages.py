"""Numbers by stage."""

import pytest
import torch

from dpk_mm.modules.mask_ratio import (
    CKAMaskRatio,
    ExponentialMaskRatio,
    FixedMaskRatio,
    LinearMaskRatio,
)


def pairs(*stages):
    torch.manual_seed(0)
    teacher = torch.randn(6, 4, 2, 2)
    return {stage: (teacher + torch.randn(6, 4, 2, 2), teacher) for stage in stages}


@pytest.mark.parametrize(
    ('policy', 'values'),
    [
        (FixedMaskRatio(dict(P4=0.5, P5=0.3)), {0: (0.5, 0.3), 50: (0.5, 0.3)}),
        (LinearMaskRatio(dict(P4=0.9, P5=0.7), 0.1), {0: (0.9, 0.7), 2: (0.7, 0.5), 7: (0.2, 0.1)}),
        (LinearMaskRatio(0.9, dict(P4=0.1, P5=0)), {3: (0.6, 0.9)}),
        (
            ExponentialMaskRatio(1.0, dict(P4=0.5, P5=0.9), min_ratio=dict(P4=0.2, P5=0.0)),
            {0: (0.95, 0.95), 1: (0.5, 0.9), 3: (0.2, 0.729)},
        ),
    ],
)
def test_each_stage_has_its_number(policy, values):
    policy.check_stages(['P4', 'P5'])
    for epoch, (p4, p5) in values.items():
        policy.set_epoch(epoch)
        assert policy(pairs('P4', 'P5')) == pytest.approx(dict(P4=p4, P5=p5))


def test_clamps_by_stage():
    same = {stage: (t, t) for stage, (_, t) in pairs('P4', 'P5').items()}
    policy = CKAMaskRatio(min_ratio=dict(P4=0.25, P5=0.4))
    assert policy(same) == dict(P4=0.25, P5=0.4)
    policy = CKAMaskRatio(min_ratio=0.0, max_ratio=dict(P4=0.3, P5=0.0))
    unlike = {stage: (torch.ones_like(t), t) for stage, (_, t) in same.items()}
    assert policy(unlike) == dict(P4=0.3, P5=0.0)


def test_a_first_batch_without_a_value_takes_the_limit_of_its_stage():
    nan = {stage: (s * float('nan'), t) for stage, (s, t) in pairs('P4', 'P5').items()}
    policy = CKAMaskRatio(max_ratio=dict(P4=0.8, P5=0.6))
    assert policy(nan) == dict(P4=0.8, P5=0.6)


@pytest.mark.parametrize(
    ('policy', 'key'),
    [
        (FixedMaskRatio(dict(P4=0.5)), 'ratio'),
        (FixedMaskRatio(dict(P4=0.5, P5=0.5, P6=0.5)), 'ratio'),
        (LinearMaskRatio(initial=dict(P4=0.5, p5=0.5)), 'initial'),
        (LinearMaskRatio(decrement=dict(P4=0.5)), 'decrement'),
        (ExponentialMaskRatio(decay=dict(P4=0.5)), 'decay'),
        (CKAMaskRatio(min_ratio=dict(P4=0.5)), 'min_ratio'),
        (CKAMaskRatio(max_ratio=dict(P4=0.5)), 'max_ratio'),
    ],
)
def test_stages_that_are_not_those_of_the_model(policy, key):
    expected = f'{key} has entries for P4.*, but the stages of the model are P4, P5; give one'
    with pytest.raises(ValueError, match=expected):
        policy.check_stages(['P4', 'P5'])


def test_a_policy_that_no_hook_has_bound_names_the_stage():
    with pytest.raises(ValueError, match="ratio has no entry for stage 'P5', only for P4"):
        FixedMaskRatio(dict(P4=0.5))(pairs('P4', 'P5'))


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: FixedMaskRatio(dict(P4=1.5)), r'ratio.P4 must be in \[0, 1\], but is 1.5'),
        (lambda: FixedMaskRatio(dict(P4='x')), r"ratio.P4 must be in \[0, 1\], but is 'x'"),
        (lambda: FixedMaskRatio({}), 'ratio is a dict by stage, but names no stage'),
        (lambda: FixedMaskRatio(None), r'ratio must be in \[0, 1\], but is None'),
        (
            lambda: LinearMaskRatio(decrement=dict(P4=-1)),
            'decrement.P4 must be finite and at least 0',
        ),
        (
            lambda: CKAMaskRatio(min_ratio=dict(P4=0.1, P5=0.6), max_ratio=0.5),
            r"min_ratio \(0.6\) must not exceed max_ratio \(0.5\) of stage 'P5'",
        ),
        (
            lambda: CKAMaskRatio(min_ratio=0.5, max_ratio=dict(P5=0.3)),
            r"min_ratio \(0.5\) must not exceed max_ratio \(0.3\) of stage 'P5'",
        ),
    ],
)
def test_numbers_that_do_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_two_losses_that_share_a_policy_keep_both_ratios():
    policy = FixedMaskRatio(dict(P4=0.5, P5=0.3))
    assert policy(pairs('P4')) == dict(P4=0.5)
    assert policy(pairs('P5')) == dict(P5=0.3)
    assert policy.ratios == dict(P4=0.5, P5=0.3)
