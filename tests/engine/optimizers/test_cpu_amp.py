import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

import dpk_mm  # noqa: F401


@pytest.fixture
def wrapper():
    torch.manual_seed(0)
    config = dict(
        type='mmrazor.CPUAmpOptimWrapper',
        optimizer=dict(type='SGD', lr=0.1),
        accumulative_counts=2,
    )
    model = nn.Linear(8, 3)
    return model, build_optim_wrapper(model, config)


def test_the_model_runs_in_bfloat16_and_learns_in_float32(wrapper):
    model, optim = wrapper
    x = torch.randn(4, 8)
    before = model.weight.detach().clone()
    total = torch.zeros_like(before)
    for _ in range(2):
        with optim.optim_context(model):
            y = model(x)
            loss = y.float().square().mean()
        assert y.dtype == torch.bfloat16
        # the gradient in float32, of the mean of two equal batches
        reference = nn.functional.linear(x, before, model.bias.detach())
        total += 2 * reference.T @ x / reference.numel() / 2
        optim.update_params(loss)
    assert model.weight.dtype == torch.float32
    torch.testing.assert_close(before - model.weight, 0.1 * total, rtol=0.05, atol=1e-3)
    assert not torch.is_autocast_enabled('cpu')


def test_with_one_optimizer_for_each_part():
    config = dict(
        constructor='mmrazor.DPKOptimWrapperConstructor',
        architecture=dict(type='mmrazor.CPUAmpOptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
        distiller=dict(type='mmrazor.CPUAmpOptimWrapper', optimizer=dict(type='AdamW', lr=0.1)),
    )
    model = nn.ModuleDict(dict(architecture=nn.Linear(4, 4), distiller=nn.Linear(4, 1)))
    optim = build_optim_wrapper(model, config)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with optim.optim_context(model):
        y = model['distiller'](model['architecture'](torch.ones(2, 4)))
    assert y.dtype == torch.bfloat16
    optim.update_params(y.float().square().sum())
    assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
