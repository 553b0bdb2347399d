import pytest
import torch

from dpk_mm.functional.host_copy import HostCopy

DEVICES = [
    'cpu',
    pytest.param(
        'cuda', marks=pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
    ),
]


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.int64, torch.bool])
def test_the_values_of_the_moment_of_the_copy(device, dtype):
    tensor = torch.tensor([[0, 1, 0], [1, 1, 0]], dtype=dtype, device=device)
    copy = HostCopy(tensor)
    tensor.zero_()  # queued after the copy
    for _ in range(2):  # asking again gives the same
        found = copy.get()
        assert found.device.type == 'cpu' and found.dtype == dtype
        assert torch.equal(found, torch.tensor([[0, 1, 0], [1, 1, 0]], dtype=dtype))


@pytest.mark.parametrize('device', DEVICES)
def test_no_gradient_is_followed(device):
    tensor = torch.ones(3, device=device, requires_grad=True)
    assert not HostCopy(2 * tensor).get().requires_grad
