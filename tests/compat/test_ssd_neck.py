import torch

import dpk_mm  # noqa: F401
from dpk_mm.compat import ssd_neck


def test_the_weight_is_the_scale():
    from mmdet.models.necks.ssd_neck import L2Norm

    assert not ssd_neck.needed()
    norm = L2Norm(4, scale=20.0)
    assert torch.equal(norm.weight, torch.full((4,), 20.0))
    assert isinstance(norm.weight, torch.nn.Parameter)
    lengths = norm(torch.rand(2, 4, 3, 3)).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 20.0))
