"""A plain pre-norm vision transformer on token sequences."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention with biases on queries and values only.

    A bias on the keys would change no output: it adds the same number to all logits of a query.

    Args:
        embed_dims: Width D.
        num_heads: Heads; must divide D.

    Raises:
        ValueError: If ``num_heads`` does not divide ``embed_dims``.
    """

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        if num_heads < 1 or embed_dims % num_heads:
            raise ValueError(
                f'num_heads must divide the width, but num_heads is {num_heads} and the width '
                f'(embed_dims or decoder_embed_dims) is {embed_dims}.'
            )
        self.num_heads = num_heads
        self.q = nn.Linear(embed_dims, embed_dims)
        self.k = nn.Linear(embed_dims, embed_dims, bias=False)
        self.v = nn.Linear(embed_dims, embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, L, D]`` -> ``[N, L, D]``."""
        n, length, dims = x.shape
        q, k, v = (
            layer(x).view(n, length, self.num_heads, -1).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(n, length, dims))


class Block(nn.Module):
    """Pre-LayerNorm transformer block: attention, then an MLP with GELU, each with a residual.

    Args:
        embed_dims: Width D.
        num_heads: Heads; must divide D.
        mlp_ratio: Hidden width of the MLP over D.

    Source: A.2; no dropout, drop-path or layer-scale, LayerNorm eps 1e-6 (authors' code).
    """

    def __init__(self, embed_dims: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(embed_dims * mlp_ratio)
        self.norm1 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.attn = Attention(embed_dims, num_heads)
        self.norm2 = nn.LayerNorm(embed_dims, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(embed_dims, hidden), nn.GELU(), nn.Linear(hidden, embed_dims)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[N, L, D]`` -> ``[N, L, D]``."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A stack of blocks and a closing LayerNorm.

    An empty sequence (L = 0) is returned as it is: at a mask ratio of 0 or 1 one of DPK's encoders gets no token. Its
    parameters still take part in the graph with a gradient of zero, so that DistributedDataParallel does not wait for
    them.

    Args:
        embed_dims: Width D.
        depth: Blocks, at least 0.
        num_heads: Heads; must divide D.
    """

    def __init__(self, embed_dims: int, depth: int, num_heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(embed_dims, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dims, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, L, D]`` -> ``[N, L, D]``."""
        if x.shape[1] == 0:
            return x + sum(p.sum() for p in self.parameters()) * 0
        for block in self.blocks:
            x = block(x)
        return self.norm(x)
