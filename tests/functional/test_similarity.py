"""HSIC and CKA against a slow float64 oracle and against pytorch-cka."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_mm.functional import (
    cka_from_sums,
    hsic_sums,
    mean_cosine_similarity,
    minibatch_cka,
    positions_as_samples,
    unbiased_hsic,
)

# (n, p, q): few samples of wide features (Gram form), many of narrow ones (feature form), the
# smallest n, and both sides of the border between the forms
SHAPES = [(8, 300, 200), (200, 6, 9), (4, 5, 3), (10, 10, 7), (11, 10, 7), (12, 3, 40)]


def u_centred(gram):
    """Szekely & Rizzo's U-centring: the inner product of two such matrices is HSIC_1."""
    n = gram.shape[0]
    rows = gram.sum(1, keepdim=True) - gram.diagonal().unsqueeze(1)
    off = gram - rows / (n - 2) - rows.T / (n - 2)
    off = off + rows.sum() / ((n - 1) * (n - 2))
    return off.fill_diagonal_(0)


def without_diagonal(x):
    x = x.flatten(1).double()
    x = x - x.mean(0)
    return (x @ x.T).fill_diagonal_(0)


def oracle_hsic(x, y):
    n = x.shape[0]
    a, b = u_centred(without_diagonal(x)), u_centred(without_diagonal(y))
    return (a * b).sum() / (n * (n - 3))


def oracle_cka(x, y):
    return oracle_hsic(x, y) / (oracle_hsic(x, x) * oracle_hsic(y, y)).sqrt()


def related(n, p, q, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, p, generator=g)
    y = x @ torch.randn(p, q, generator=g) / p**0.5 + 0.7 * torch.randn(n, q, generator=g)
    return x, y


@pytest.mark.parametrize('shape', SHAPES)
def test_hsic_sums_equal_the_u_centred_oracle(shape):
    x, y = related(*shape)
    expected = torch.stack([oracle_hsic(x, y), oracle_hsic(x, x), oracle_hsic(y, y)])
    found = hsic_sums(x, y)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5 * expected.max().item())
    torch.testing.assert_close(unbiased_hsic(x, y), found[0], rtol=0, atol=0)


@pytest.mark.parametrize('shape', SHAPES)
def test_cka_equals_the_oracle_and_pytorch_cka(shape):
    cka = pytest.importorskip('cka')
    x, y = related(*shape)
    found = minibatch_cka(x, y)
    torch.testing.assert_close(found, oracle_cka(x, y), rtol=0, atol=1e-5)
    grams = [(v.double() @ v.double().T).unsqueeze(0) for v in (x, y)]
    xy, xx, yy = (v.squeeze() for v in cka.hsic(*grams))
    torch.testing.assert_close(found, xy / (xx * yy).sqrt(), rtol=0, atol=1e-5)


@pytest.mark.parametrize('shape', SHAPES)
def test_an_offset_of_ten_costs_no_digits_in_float32(shape):
    x, y = related(*shape)
    x, y = x + 10, y - 10
    torch.testing.assert_close(minibatch_cka(x, y), oracle_cka(x, y), rtol=0, atol=2e-5)


@pytest.mark.parametrize('scale', [1e30, 1e-30])
@pytest.mark.parametrize('shape', SHAPES)
def test_huge_and_tiny_features(shape, scale):
    x, y = related(*shape)
    torch.testing.assert_close(minibatch_cka(x * scale, y), minibatch_cka(x, y), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        minibatch_cka(x * scale, y * scale), minibatch_cka(x, y), rtol=0, atol=1e-5
    )
    expected = oracle_hsic(x * scale, y)
    torch.testing.assert_close(
        unbiased_hsic(x * scale, y) / expected, torch.ones_like(expected), rtol=0, atol=1e-3
    )


@pytest.mark.parametrize('n', [1, 2, 3])
def test_fewer_than_four_samples(n):
    with pytest.raises(ValueError, match=rf'n >= 4 samples, but n is {n}'):
        minibatch_cka(torch.randn(n, 5), torch.randn(n, 5))


def test_wrong_inputs_are_named():
    with pytest.raises(ValueError, match='x has 5 and y has 6'):
        hsic_sums(torch.randn(5, 2), torch.randn(6, 2))
    with pytest.raises(ValueError, match=r'y must be \[n, \.\.\.\]'):
        hsic_sums(torch.randn(5, 2), torch.randn(5))


@pytest.mark.parametrize(('n', 'p'), [(8, 100), (100, 8), (50, 5), (333, 5), (300, 700)])
def test_a_constant_feature_gives_zero(n, p):
    torch.manual_seed(0)
    # one that is not zero: its rounded mean differs from it in many columns
    constant = torch.randn(p).expand(n, p)
    other = torch.randn(n, 6)
    assert minibatch_cka(constant, other) == 0
    assert minibatch_cka(other, constant) == 0
    assert minibatch_cka(constant, constant) == 0
    assert minibatch_cka(torch.zeros(n, p), other) == 0


def test_a_feature_that_is_not_finite_gives_nan():
    x, y = related(8, 5, 5)
    for bad in (math.nan, math.inf):
        broken = x.clone()
        broken[2, 3] = bad
        assert minibatch_cka(broken, y).isnan()
        assert minibatch_cka(y, broken).isnan()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    seed=st.integers(0, 1000),
    scale=st.floats(1e-6, 1e6),
    shift=st.floats(-5, 5),
)
def test_cka_does_not_see_rotation_scale_or_shift_and_is_symmetric(shape, seed, scale, shift):
    x, y = related(*shape, seed=seed)
    g = torch.Generator().manual_seed(seed + 1)
    p = x.shape[1]
    rotation = torch.linalg.qr(torch.randn(p, p, generator=g, dtype=torch.float64)).Q.float()
    before = minibatch_cka(x, y)
    # the unit of what may be lost: with n = 4 the denominator can be a small difference
    sums = hsic_sums(x, y)
    size = (x - x.mean(0)).double().square().sum() * (y - y.mean(0)).double().square().sum()
    n = shape[0]
    tolerance = 1e-5 * (1 + (size / (n * (n - 3)) / (sums[1] * sums[2]).sqrt()).item())
    moved = (x @ rotation) * scale + shift * scale
    torch.testing.assert_close(minibatch_cka(moved, y), before, rtol=0, atol=tolerance)
    torch.testing.assert_close(minibatch_cka(y, x), before, rtol=0, atol=tolerance)
    torch.testing.assert_close(
        minibatch_cka(moved, x), torch.ones_like(before), rtol=0, atol=10 * tolerance
    )


def test_the_hsic_of_independent_features_is_zero_on_average():
    g = torch.Generator().manual_seed(0)
    values = torch.stack(
        [
            unbiased_hsic(torch.randn(6, 4, generator=g), torch.randn(6, 3, generator=g))
            for _ in range(2000)
        ]
    )
    assert values.mean().abs() < 4 * values.std() / 2000**0.5
    assert values.min() < 0


@pytest.mark.parametrize('shape', SHAPES)
def test_autocast_changes_nothing(shape):
    x, y = related(*shape)
    expected = minibatch_cka(x, y)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = minibatch_cka(x, y)
        cosine = mean_cosine_similarity(x[:, :2, None, None], y[:, :2, None, None])
    assert found == expected
    assert cosine == mean_cosine_similarity(x[:, :2, None, None], y[:, :2, None, None])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_other_float_types_are_computed_in_float32(dtype):
    x, y = (v.to(dtype) for v in related(8, 300, 200))
    assert minibatch_cka(x, y) == minibatch_cka(x.float(), y.float())


def test_inputs_stay_as_they_are():
    x, y = related(8, 5, 5)
    before = x.clone(), y.clone()
    minibatch_cka(x, y)
    assert torch.equal(x, before[0]) and torch.equal(y, before[1])


def test_feature_maps_are_flattened_after_the_sample():
    x, y = related(8, 24, 12)
    assert minibatch_cka(x.view(8, 2, 3, 4), y.view(8, 3, 2, 2)) == minibatch_cka(x, y)


def test_sums_are_averaged_before_they_are_divided():
    sums = torch.tensor([[1.0, 4.0, 1.0], [3.0, 4.0, 9.0]], dtype=torch.float64)
    torch.testing.assert_close(
        cka_from_sums(sums), torch.tensor([0.5, 0.5], dtype=torch.float64), rtol=0, atol=1e-15
    )
    assert cka_from_sums(sums.mean(0)).item() == pytest.approx(2 / (2 * 5**0.5))
    assert cka_from_sums(torch.tensor([1.0, 0.0, 2.0])) == 0


def test_positions_as_samples_by_hand():
    x = torch.arange(2 * 3 * 2 * 2).view(2, 3, 2, 2)
    rows = [[x[i, c, r, w] for c in range(3)] for i in range(2) for r in range(2) for w in range(2)]
    assert torch.equal(positions_as_samples(x), torch.tensor(rows))
    tokens = torch.arange(2 * 4 * 3).view(2, 4, 3)
    assert torch.equal(positions_as_samples(tokens), tokens.reshape(8, 3))


def test_mean_cosine_by_hand():
    x = torch.tensor([[[[1.0, 0.0]], [[3.0, 4.0]]]])
    y = torch.tensor([[[[0.0, 2.0]], [[4.0, 3.0]]]])
    assert mean_cosine_similarity(x, y).item() == pytest.approx((0 + 24 / 25) / 2)
    assert mean_cosine_similarity(x, -5 * x).item() == pytest.approx(-1)
    with pytest.raises(ValueError, match='needs equal shapes'):
        mean_cosine_similarity(x, y[:, :1])
