"""What every policy does, by the policies that there are."""

import json
import math

import pytest

from dpk_mm.functional import minibatch_cka
from dpk_mm.modules.mask_ratio import (
    CKAMaskRatio,
    CosineMaskRatio,
    FixedMaskRatio,
    LinearMaskRatio,
)
from tests.helpers.related_features import related_pair


def test_the_ratio_is_clamped_and_the_similarity_is_not():
    policy = CKAMaskRatio()
    s, _ = related_pair()
    for seed in range(20):
        _, t = related_pair(seed=seed + 100)
        if minibatch_cka(s, t) < -0.01:
            break
    ratios = policy(dict(same=(s, s * 3 + 1), unrelated=(s, t)))
    assert ratios == dict(same=0.1, unrelated=0.95)
    assert policy.similarities['same'] == pytest.approx(1, abs=1e-5)
    assert policy.similarities['unrelated'] < -0.01


@pytest.mark.parametrize('make', [CKAMaskRatio, CosineMaskRatio, LinearMaskRatio, FixedMaskRatio])
def test_state_goes_through_json(make):
    policy = make()
    policy.set_epoch(17)
    policy(dict(P5=related_pair(student=5)))
    state = policy.state_dict()
    assert state['type'] == make.__name__
    fresh = make()
    fresh.load_state_dict(json.loads(json.dumps(state)))
    assert fresh.state_dict() == state
    assert (fresh.epoch, fresh.ratios) == (17, policy.ratios)


def test_the_state_is_a_copy():
    policy = CKAMaskRatio()
    policy(dict(P5=related_pair()))
    state = policy.state_dict()
    state['ratios']['P5'] = -1
    assert policy.ratios['P5'] != -1


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: CKAMaskRatio(min_ratio=-0.1), r'min_ratio must be in \[0, 1\], but is -0.1'),
        (lambda: CKAMaskRatio(max_ratio=math.nan), r'max_ratio must be in \[0, 1\], but is nan'),
        (lambda: CKAMaskRatio(min_ratio=0.6, max_ratio=0.5), r'min_ratio \(0.6\) must not exceed'),
    ],
)
def test_arguments_that_do_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()
