import pytest
import torch

from dpk_mm.functional.feature_error import channel_scale, error_and_variance


def features():
    g = torch.Generator().manual_seed(0)
    return (torch.randn(3, 4, 5, 2, generator=g) * (1 + k) for k in range(2))


def test_sums_of_squares_by_loops():
    feature, teacher = features()
    error = sum((a - b) ** 2 for a, b in zip(feature.flatten(), teacher.flatten(), strict=True))
    variance = 0.0
    for channel in range(4):
        values = [v.item() for v in teacher[:, channel].flatten()]
        mean = sum(values) / len(values)
        variance += sum((v - mean) ** 2 for v in values)
    found = error_and_variance(feature, teacher)
    assert found.tolist() == pytest.approx([error.item(), variance], rel=1e-5)


def test_the_mean_of_each_channel_has_the_share_one():
    _, teacher = features()
    mean = teacher.mean((0, 2, 3), keepdim=True).expand_as(teacher)
    error, variance = error_and_variance(mean, teacher)
    assert (error / variance).item() == pytest.approx(1.0, rel=1e-5)
    assert error_and_variance(teacher, teacher)[0] == 0


def test_channels_of_different_size_get_one_scale():
    _, teacher = features()
    factors = torch.tensor([1.0, 10.0, 0.1, 3.0]).view(1, 4, 1, 1)
    scale = channel_scale(teacher * factors, floor=0.0)
    spread = (teacher * factors / scale).transpose(0, 1).flatten(1).var(1, unbiased=False)
    assert spread.tolist() == pytest.approx([1.0] * 4, rel=1e-5)


def test_a_silent_channel_does_not_outweigh_the_others():
    _, teacher = features()
    teacher[:, 0] = 0.0
    variances = teacher.transpose(0, 1).flatten(1).var(1, unbiased=False)
    scale = channel_scale(teacher)
    assert scale.shape == (1, 4, 1, 1)
    assert scale.flatten()[0].item() == pytest.approx((0.01 * variances.mean()).sqrt().item())
    assert channel_scale(torch.full((2, 3, 1, 1), 7.0)).flatten().tolist() == [1.0] * 3
