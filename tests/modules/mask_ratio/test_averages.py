"""Averages over mini-batches: Eq. 7 with k > 1, and the exponential moving average."""

import json
import math

import pytest
import torch

from dpk_mm.functional import hsic_sums, minibatch_cka
from dpk_mm.modules.mask_ratio import CKAMaskRatio, CosineMaskRatio, LinearMaskRatio

OPEN = dict(min_ratio=0.0, max_ratio=1.0)


def batch(seed, n=6, scale=1.0):
    """Related features, of another strength and another gap in each mini-batch."""
    g = torch.Generator().manual_seed(seed)
    t = torch.randn(n, 5, 2, 3, generator=g)
    s = torch.einsum('st,nthw->nshw', torch.randn(3, 5, generator=g), t)
    s = s + (0.2 + 0.3 * seed) * torch.randn(s.shape, generator=g)
    return scale * (1 + seed) * s, t


def slow_sums(x, y):
    """HSIC_1 of Eq. 6 in float64 from whole Gram matrices, without any shortcut of ours."""

    def gram(v):
        v = v.flatten(1).double()
        return (v @ v.T).fill_diagonal_(0)

    def hsic(k, m):
        n = k.shape[0]
        one = torch.ones(n, dtype=torch.float64)
        value = (k * m).sum() + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
        return (value - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))

    k, m = gram(x), gram(y)
    return torch.stack([hsic(k, m), hsic(k, k), hsic(m, m)])


def eq7(batches, weights):
    """Numerator and both factors of the denominator, averaged one by one."""
    sums = [slow_sums(*b) for b in batches]
    xy, xx, yy = (
        sum(w * s[i] for w, s in zip(weights, sums, strict=True)) / sum(weights) for i in range(3)
    )
    return (xy / (xx.sqrt() * yy.sqrt())).item()


@pytest.mark.parametrize('window', [1, 2, 3, 10])
def test_a_window_averages_hsic_before_the_division(window):
    policy = CKAMaskRatio(window=window, **OPEN)
    batches = [batch(seed) for seed in range(5)]
    for last in range(5):
        ratio = policy(dict(P5=batches[last]))['P5']
        present = batches[max(0, last + 1 - window) : last + 1]
        assert policy.similarities['P5'] == pytest.approx(
            eq7(present, [1] * len(present)), abs=1e-5
        )
        assert ratio == min(1.0, 1 - policy.similarities['P5'])
    if window == 3:  # neither this batch's CKA nor the mean of three
        each = [minibatch_cka(*b).item() for b in batches[2:]]
        assert abs(policy.similarities['P5'] - each[-1]) > 1e-3
        assert abs(policy.similarities['P5'] - sum(each) / 3) > 1e-3


def test_a_window_of_one_is_the_default_bit_for_bit():
    plain, one, off = CKAMaskRatio(), CKAMaskRatio(window=1), CKAMaskRatio(momentum=0.0)
    for seed in range(3):
        pair = dict(P5=batch(seed))
        assert plain(pair) == one(pair) == off(pair)
        assert plain.similarities['P5'] == minibatch_cka(*pair['P5']).item()
    assert not plain.has_state and plain.state_dict()['history'] == {}


@pytest.mark.parametrize('momentum', [0.5, 0.9, 0.999])
def test_the_moving_average_has_no_bias_at_the_start(momentum):
    policy = CKAMaskRatio(momentum=momentum, **OPEN)
    batches = [batch(seed) for seed in range(6)]
    for last in range(6):
        policy(dict(P5=batches[last]))
        weights = [momentum ** (last - i) for i in range(last + 1)]
        expected = eq7(batches[: last + 1], weights)
        assert policy.similarities['P5'] == pytest.approx(expected, abs=1e-5)
    first = minibatch_cka(*batches[0]).item()
    assert abs(expected - first) > 1e-3


@pytest.mark.parametrize('kind', ['window', 'momentum'])
def test_cosine_is_averaged_the_same_way(kind):
    policy = CosineMaskRatio(**{kind: 3 if kind == 'window' else 0.8}, **OPEN)
    cosines = []
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        x = torch.rand(4, 3, 2, 3, generator=g)
        y = x + seed * torch.rand(4, 3, 2, 3, generator=g)
        rows = zip(x.double().view(12, 6), y.double().view(12, 6), strict=True)
        cosines.append(sum(float(a @ b / (a.norm() * b.norm())) for a, b in rows) / 12)
        policy(dict(P5=(x, y)))
        weights = [0.8 ** (seed - i) for i in range(seed + 1)]
        if kind == 'window':
            weights = [float(seed - i < 3) for i in range(seed + 1)]
        mean = sum(w * c for w, c in zip(weights, cosines, strict=True)) / sum(weights)
        assert policy.similarities['P5'] == pytest.approx(mean, abs=1e-6)


def test_stages_have_averages_of_their_own():
    policy = CKAMaskRatio(window=2, **OPEN)
    policy(dict(P4=batch(0), P5=batch(1)))
    policy(dict(P4=batch(2), P5=batch(3)))
    assert policy.similarities['P4'] == pytest.approx(eq7([batch(0), batch(2)], [1, 1]), abs=1e-5)
    assert policy.similarities['P5'] == pytest.approx(eq7([batch(1), batch(3)], [1, 1]), abs=1e-5)


@pytest.mark.parametrize('bad', ['few', 'nan'])
@pytest.mark.parametrize('kind', [dict(window=2), dict(momentum=0.5)])
def test_a_batch_without_a_value_leaves_the_average_alone(bad, kind):
    policy, without = CKAMaskRatio(**kind, **OPEN), CKAMaskRatio(**kind, **OPEN)
    for seed in range(2):
        policy(dict(P5=batch(seed)))
        without(dict(P5=batch(seed)))
    before = policy.ratios['P5']
    broken = batch(9, n=3) if bad == 'few' else tuple(math.nan * v for v in batch(9))
    assert policy(dict(P5=broken))['P5'] == before
    assert policy.state_dict() == without.state_dict()
    assert policy(dict(P5=batch(4))) == without(dict(P5=batch(4)))


def test_a_constant_feature_counts_as_zero_in_the_average():
    policy = CKAMaskRatio(window=2, **OPEN)
    x, y = batch(0)
    policy(dict(P5=(x, y)))
    alone = policy.similarities['P5']
    policy(dict(P5=(torch.ones_like(x), torch.ones_like(y))))
    # nothing is added to any of the three sums
    assert policy.similarities['P5'] == pytest.approx(alone, abs=1e-12)


def test_features_of_1e30_stay_finite():
    policy = CKAMaskRatio(window=4, **OPEN)
    for _ in range(5):
        policy(dict(P5=tuple(1e30 * v for v in batch(1))))
    assert policy.similarities['P5'] == pytest.approx(minibatch_cka(*batch(1)).item(), abs=1e-5)


@pytest.mark.parametrize(
    'make',
    [
        lambda: CKAMaskRatio(window=3),
        lambda: CKAMaskRatio(momentum=0.9),
        lambda: CosineMaskRatio(window=3),
    ],
)
def test_a_resumed_run_goes_on_bit_for_bit(make):
    def pair(seed):
        s, t = batch(seed)
        return dict(P4=(s, t[:, :3]), P5=(s + 1, t[:, 2:]))

    whole, first = make(), make()
    for seed in range(4):
        whole(pair(seed))
        first(pair(seed))
    state = json.loads(json.dumps(first.state_dict()))  # plain numbers
    resumed = make()
    resumed.load_state_dict(state)
    assert resumed.state_dict() == first.state_dict()
    for seed in range(4, 8):
        assert resumed(pair(seed)) == whole(pair(seed))
        assert resumed.similarities == whole.similarities
    assert state['history']  # and a policy without it differs
    forgetful = make()
    forgetful.load_state_dict(dict(state, history={}))
    forgetful(pair(4))
    first(pair(4))
    assert forgetful.similarities != first.similarities


def test_a_checkpoint_of_another_average_is_read():
    window, average = CKAMaskRatio(window=3, **OPEN), CKAMaskRatio(momentum=0.5, **OPEN)
    for seed in range(3):
        window(dict(P5=batch(seed)))
    average.load_state_dict(window.state_dict())
    assert average.ratios == window.ratios
    average(dict(P5=batch(5)))
    assert average.similarities['P5'] == pytest.approx(minibatch_cka(*batch(5)).item())
    smaller = CKAMaskRatio(window=2, **OPEN)
    smaller.load_state_dict(window.state_dict())
    smaller(dict(P5=batch(5)))
    expected = eq7([batch(2), batch(5)], [1, 1])
    assert smaller.similarities['P5'] == pytest.approx(expected, abs=1e-5)
    old = {k: v for k, v in window.state_dict().items() if k != 'history'}  # of an earlier release
    fresh = CKAMaskRatio(window=3)
    fresh.load_state_dict(old)
    assert fresh.ratios == window.ratios


def test_the_state_is_small():
    policy = CKAMaskRatio(window=5)
    for seed in range(9):
        policy(dict(P5=batch(seed)))
    values = policy.state_dict()['history']['P5']['values']
    assert [len(v) for v in values] == [3] * 5
    assert values[-1] == hsic_sums(*batch(8)).tolist()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(window=0), 'window must be a whole number of at least 1, but is 0'),
        (dict(window=2.5), 'window must be a whole number of at least 1, but is 2.5'),
        (dict(momentum=1.0), r'momentum must be in \[0, 1\), but is 1.0'),
        (dict(momentum=-0.1), r'momentum must be in \[0, 1\), but is -0.1'),
        (dict(momentum=math.nan), r'momentum must be in \[0, 1\), but is nan'),
        (dict(momentum='0.9'), r"momentum must be in \[0, 1\), but is '0.9'"),
        (dict(window=4, momentum=0.9), r'window \(4\) and momentum \(0.9\) .* only one'),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    for make in (CKAMaskRatio, CosineMaskRatio):
        with pytest.raises(ValueError, match=message):
            make(**arguments)


def test_schedules_remember_nothing():
    assert not LinearMaskRatio().has_state
    assert CKAMaskRatio(window=2).has_state and CosineMaskRatio(momentum=0.1).has_state


@pytest.mark.parametrize('kind', [dict(), dict(window=2), dict(momentum=0.5)])
@pytest.mark.parametrize('make', [CKAMaskRatio, CosineMaskRatio])
def test_one_step_late_is_the_same_ratio_a_step_later(make, kind):
    prompt, late = make(**kind, **OPEN), make(one_step_late=True, **kind, **OPEN)
    batches = [batch(seed) for seed in range(5)]
    if make is CosineMaskRatio:
        batches = [(t + 0.3 * (1 + i) * t.roll(1, 0), t) for i, (_, t) in enumerate(batches)]
    there = [prompt(dict(P5=b))['P5'] for b in batches]
    assert len(set(there)) == 5
    # the first mini-batch has nothing before it, and counts once
    assert [late(dict(P5=b))['P5'] for b in batches] == there[:1] + there[:-1]


def test_one_step_late_after_a_resume():
    whole = CKAMaskRatio(one_step_late=True, window=2, **OPEN)
    before, after = whole, CKAMaskRatio(one_step_late=True, window=2, **OPEN)
    stages = [dict(P4=batch(seed), P5=batch(seed + 9)) for seed in range(6)]
    for features in stages[:3]:
        before(features)
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert [after(f) for f in stages[3:]] == [whole(f) for f in stages[3:]]


def test_one_step_late_does_not_mix_two_losses():
    policy, alone = (CKAMaskRatio(one_step_late=True, **OPEN) for _ in range(2))
    for seed in range(3):
        policy(dict(P4=batch(seed + 20)))
        both = policy(dict(P5=batch(seed)))
        assert both == alone(dict(P5=batch(seed)))
