import pytest
import torch

from dpk_mm.modules.context_block import ContextBlock


def _random_block(channels, reduction=2):
    block = ContextBlock(channels, reduction)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    return block.double()


def _slow(block, feature):
    """One image, one position, one channel at a time."""
    n, _, height, width = feature.shape
    rows = []
    for i in range(n):
        positions = [feature[i, :, y, x] for y in range(height) for x in range(width)]
        scores = torch.stack([(block.w_k.weight[0] * p).sum() for p in positions])
        share = scores.exp() / scores.exp().sum()
        pooled = sum(a * p for a, p in zip(share, positions, strict=True))
        hidden = block.w_v1.weight @ pooled + block.w_v1.bias
        variance = ((hidden - hidden.mean()) ** 2).mean()
        hidden = (hidden - hidden.mean()) / (variance + block.norm.eps) ** 0.5
        hidden = (hidden * block.norm.weight + block.norm.bias).clamp(min=0)
        rows.append(block.w_v2.weight @ hidden + block.w_v2.bias)
    return torch.stack(rows)


@pytest.mark.parametrize('reduction', [1, 2, 3])
def test_equals_the_formula(reduction):
    torch.manual_seed(0)
    block = _random_block(6, reduction)
    feature = torch.randn(2, 6, 3, 4, dtype=torch.float64)
    term = block(feature)
    assert term.shape == (2, 6)
    torch.testing.assert_close(term, _slow(block, feature))


def test_does_not_depend_on_the_order_of_positions():
    torch.manual_seed(0)
    block = _random_block(4)
    feature = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    shuffled = feature.flatten(2)[..., torch.randperm(15)].view_as(feature)
    torch.testing.assert_close(block(shuffled), block(feature))


def test_is_zero_at_the_start_and_can_leave_it():
    torch.manual_seed(0)
    block = ContextBlock(8)
    term = block(torch.randn(2, 8, 3, 3))
    assert torch.equal(term, torch.zeros(2, 8))
    term.sum().backward()
    assert block.w_v2.weight.grad.abs().sum() > 0


def test_key_weights_start_with_the_kaiming_fan_in_spread():
    torch.manual_seed(0)
    weight = ContextBlock(4000, 400).w_k.weight
    assert weight.std().item() == pytest.approx((2 / 4000) ** 0.5, rel=0.05)


def test_every_parameter_trains_once_the_last_layer_is_not_zero():
    torch.manual_seed(0)
    block = _random_block(6)
    block(torch.randn(2, 6, 3, 3, dtype=torch.float64)).square().sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize('reduction', [0, 5])
def test_refuses_a_hidden_layer_without_channels(reduction):
    with pytest.raises(ValueError, match=f'reduction is {reduction} and channels is 4'):
        ContextBlock(4, reduction)
