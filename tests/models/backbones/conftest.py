"""Networks recomputed from their weights alone, by name, with torch.nn.functional."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Recomputed:
    """Layers in eval mode, looked up by their published names."""

    def __init__(self, net: nn.Module) -> None:
        self.state = net.state_dict()

    def conv(self, name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.state[f'{name}.weight']
        bias = self.state.get(f'{name}.bias')
        return F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, groups=groups)

    def bn(self, name: str, x: Tensor) -> Tensor:
        mean, var, weight, bias = (
            self.state[f'{name}.{part}'][:, None, None]
            for part in ('running_mean', 'running_var', 'weight', 'bias')
        )
        return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias

    def depthwise(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        return self.conv(name, x, stride, groups=x.shape[1])


def shuffle_channels(x: Tensor, groups: int) -> Tensor:
    """Channel j of group i goes to place j * groups + i."""
    out = torch.empty_like(x)
    size = x.shape[1] // groups
    for i in range(groups):
        for j in range(size):
            out[:, j * groups + i] = x[:, i * size + j]
    return out


@pytest.fixture
def recomputed():
    return Recomputed


@pytest.fixture
def shuffled():
    return shuffle_channels


@pytest.fixture
def eval_net():
    """Builds a network in eval mode, without gradients, every weight and statistic random."""

    def build(cls: type[nn.Module], **kwargs) -> nn.Module:
        torch.manual_seed(0)
        net = cls(**kwargs).eval().requires_grad_(False)
        for name, value in net.state_dict().items():
            if name.endswith('running_var'):
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point() and value.dim() == 1:
                value.normal_(0.5, 0.3)
        return net

    return build


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
