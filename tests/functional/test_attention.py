"""FGD's attention maps against a loop in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_mm.functional import channel_attention, spatial_attention


def softmax_times_count(values, temperature):
    top = max(values)
    e = [math.exp((v - top) / temperature) for v in values]
    return [len(values) * v / sum(e) for v in e]


@settings(max_examples=20, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
    st.sampled_from([0.1, 0.5, 1.0, 4.0]),
    st.integers(0, 1000),
)
def test_both_maps_equal_a_loop(shape, temperature, seed):
    n, c, h, w = shape
    feature = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    spatial = spatial_attention(feature, temperature)
    channel = channel_attention(feature, temperature)
    assert spatial.shape == (n, h, w) and channel.shape == (n, c)
    for i in range(n):
        f = feature[i].double().abs()
        cells = [f[:, r, col].mean().item() for r in range(h) for col in range(w)]
        maps = [f[k].mean().item() for k in range(c)]
        torch.testing.assert_close(
            spatial[i].flatten(),
            torch.tensor(softmax_times_count(cells, temperature)),
            rtol=1e-4,
            atol=1e-6,
        )
        torch.testing.assert_close(
            channel[i],
            torch.tensor(softmax_times_count(maps, temperature)),
            rtol=1e-4,
            atol=1e-6,
        )
    torch.testing.assert_close(spatial.mean((1, 2)), torch.ones(n), rtol=0, atol=1e-5)
    torch.testing.assert_close(channel.mean(1), torch.ones(n), rtol=0, atol=1e-5)


def test_known_numbers():
    feature = torch.tensor([[[[0.0, -2.0]], [[0.0, 2.0]]]])  # C = 2, H = 1, W = 2
    e = math.exp(2 / 0.5)
    torch.testing.assert_close(
        spatial_attention(feature, 0.5), torch.tensor([[[2 / (1 + e), 2 * e / (1 + e)]]])
    )
    torch.testing.assert_close(channel_attention(feature, 0.5), torch.ones(1, 2))


@pytest.mark.parametrize('attention', [spatial_attention, channel_attention])
def test_a_flat_feature_is_attended_evenly_and_the_sign_does_not_count(attention):
    flat = attention(torch.full((2, 3, 4, 5), -7.0), 0.5)
    assert torch.equal(flat, torch.ones_like(flat))
    feature = torch.randn(2, 3, 4, 5)
    assert torch.equal(attention(feature, 0.5), attention(-feature, 0.5))


@pytest.mark.parametrize('attention', [spatial_attention, channel_attention])
def test_a_low_temperature_is_sharper(attention):
    feature = torch.randn(1, 6, 4, 5, generator=torch.Generator().manual_seed(0))
    assert attention(feature, 0.1).max() > attention(feature, 0.5).max() > 1


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('attention', [spatial_attention, channel_attention])
def test_half_precision_is_summed_in_float32(attention, dtype):
    # 256 * 64 values of about 8: their sum is past the range of float16
    g = torch.Generator().manual_seed(0)
    feature = (8 + torch.rand(2, 256, 8, 8, generator=g)).to(dtype)
    found = attention(feature, 0.5)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, attention(feature.float(), 0.5), rtol=1e-5, atol=1e-5)
