import torch

from dpk_mm.models.loss_parts.non_local import NonLocal


def test_it_is_the_identity_at_first():
    torch.manual_seed(0)
    x = torch.randn(2, 6, 5, 4)
    torch.testing.assert_close(NonLocal(6, 3, 2)(x), x)


def test_a_map_smaller_than_the_pooling_has_one_position():
    torch.manual_seed(0)
    block = NonLocal(6, 3, 8)
    torch.nn.init.ones_(block.norm.weight)
    x = torch.randn(2, 6, 2, 3)
    theta, phi, g = (conv(x) for conv in (block.theta, block.phi, block.g))
    # windows of 2 x 2: one, since the third column is left out
    similar = (theta * phi[..., :2].amax((2, 3), keepdim=True)).sum(1, keepdim=True)
    expected = similar * g[..., :2].amax((2, 3), keepdim=True)
    torch.testing.assert_close(block(x), x + block.norm(block.out(expected)))
