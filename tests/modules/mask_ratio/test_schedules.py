import math

import pytest

from dpk_mm.modules.mask_ratio import ExponentialMaskRatio, FixedMaskRatio, LinearMaskRatio
from tests.helpers.related_features import OPEN, related_pair


@pytest.mark.parametrize(
    ('policy', 'values'),
    [
        (FixedMaskRatio(), {0: 0.5, 99: 0.5}),
        (FixedMaskRatio(0.0), {0: 0.0, 7: 0.0}),
        (FixedMaskRatio(1.0), {0: 1.0}),
        (LinearMaskRatio(), {0: 0.95, 1: 0.94525, 100: 0.475, 178: 0.1045, 180: 0.1, 300: 0.1}),
        (LinearMaskRatio(1.0, 0.3, **OPEN), {0: 1.0, 1: 0.7, 3: 0.1, 4: 0.0}),
        (ExponentialMaskRatio(), {0: 0.95, 1: 0.95, 2: 0.9025, 10: 0.5987369, 60: 0.1}),
        (ExponentialMaskRatio(0.8, 0.5, **OPEN), {0: 0.8, 3: 0.1}),
    ],
)
def test_schedules(policy, values):
    for epoch, value in values.items():
        policy.set_epoch(epoch)
        ratios = policy(dict(P4=related_pair(n=1), P5=related_pair(n=1)))
        assert ratios == dict(P4=pytest.approx(value), P5=pytest.approx(value))
    assert policy.similarities == {}


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: FixedMaskRatio(1.1), r'ratio must be in \[0, 1\], but is 1.1'),
        (
            lambda: LinearMaskRatio(decrement=-1),
            'decrement must be finite and at least 0, but is -1',
        ),
        # 0 * inf in the first epoch
        (lambda: LinearMaskRatio(decrement=math.inf), 'decrement must be finite .* but is inf'),
        (lambda: ExponentialMaskRatio(decay=2), r'decay must be in \[0, 1\], but is 2'),
    ],
)
def test_arguments_that_do_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()
