import math

import pytest
import torch
from torch import nn

from dpk_mm.modules.transformer import Attention, Block, Transformer


def _randomized(module):
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.double()


def _reference(block, dims, heads, hidden):
    """torch's own layer with the weights of ours, and a key bias, which must not matter."""
    layer = nn.TransformerEncoderLayer(
        dims,
        heads,
        hidden,
        dropout=0.0,
        activation='gelu',
        layer_norm_eps=1e-6,
        batch_first=True,
        norm_first=True,
    ).double()
    attn = block.attn
    with torch.no_grad():
        layer.self_attn.in_proj_weight.copy_(
            torch.cat([attn.q.weight, attn.k.weight, attn.v.weight])
        )
        layer.self_attn.in_proj_bias.copy_(
            torch.cat([attn.q.bias, torch.randn(dims).double(), attn.v.bias])
        )
    layer.self_attn.out_proj.load_state_dict(attn.proj.state_dict())
    layer.norm1.load_state_dict(block.norm1.state_dict())
    layer.norm2.load_state_dict(block.norm2.state_dict())
    layer.linear1.load_state_dict(block.mlp[0].state_dict())
    layer.linear2.load_state_dict(block.mlp[2].state_dict())
    return layer


@pytest.mark.parametrize(('heads', 'mlp_ratio'), [(1, 4.0), (2, 4.0), (4, 1.5)])
def test_block_equals_torchs_encoder_layer(heads, mlp_ratio):
    block = _randomized(Block(8, heads, mlp_ratio))
    layer = _reference(block, 8, heads, int(8 * mlp_ratio))
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(block(x), layer(x))


def test_attention_one_query_at_a_time():
    attn = _randomized(Attention(6, 3))
    x = torch.randn(1, 4, 6, dtype=torch.float64)
    q = x[0] @ attn.q.weight.T + attn.q.bias
    k = x[0] @ attn.k.weight.T
    v = x[0] @ attn.v.weight.T + attn.v.bias
    out = torch.zeros(4, 6, dtype=torch.float64)
    for head in range(3):
        part = slice(2 * head, 2 * head + 2)
        for i in range(4):
            logits = [(q[i, part] @ k[j, part]).item() / math.sqrt(2) for j in range(4)]
            share = [math.exp(logit) for logit in logits]
            for j in range(4):
                out[i, part] += share[j] / sum(share) * v[j, part]
    torch.testing.assert_close(attn(x)[0], out @ attn.proj.weight.T + attn.proj.bias)


def test_bias_on_queries_and_values_only():
    names = dict(Attention(8, 2).named_parameters())
    assert {n for n in names if n.endswith('bias')} == {'q.bias', 'v.bias', 'proj.bias'}


def test_transformer_is_its_blocks_and_a_norm():
    net = _randomized(Transformer(8, 2, 2))
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    expected = net.norm(net.blocks[1](net.blocks[0](x)))
    assert torch.equal(net(x), expected)
    assert len(Transformer(8, 0, 2).blocks) == 0


def test_tokens_are_a_set():
    net = _randomized(Transformer(8, 2, 2))
    x = torch.randn(1, 5, 8, dtype=torch.float64)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(net(x)[:, order], net(x[:, order]))


def test_an_empty_sequence_passes_with_gradients_of_zero():
    net = Transformer(8, 2, 2)
    out = net(torch.zeros(2, 0, 8))
    assert out.shape == (2, 0, 8)
    out.sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


@pytest.mark.parametrize('heads', [0, 3])
def test_heads_that_do_not_divide_the_width(heads):
    with pytest.raises(ValueError, match=f'num_heads is {heads} and the width .* is 8'):
        Block(8, heads)
