"""The transformation modules that the paper compares its own with (Table 8)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.masking import TokenMask, take_tokens, tokens_to_cells
from .hybrid_transform import (
    FeatureTransform,
    HybridTransform,
    check_heads,
    check_sizes,
    init_linear,
)
from .tokens import PatchEmbed, PositionEmbedding, grid_of
from .transformer import Transformer


class ConvTransform(FeatureTransform):
    """A 1x1 convolution on the student's feature (FitNets): no mask, no prior.

    Args:
        student_channels: C_s.
        teacher_channels: C_t.

    Raises:
        ValueError: If a size is below 1.

    Source: Table 8, the paper's baseline.
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__(student_channels, teacher_channels)
        self.conv = nn.Conv2d(student_channels, teacher_channels, 1)

    def transform(self, student_feat: Tensor, teacher_feat: Tensor, mask: TokenMask) -> Tensor:
        """See :meth:`forward`; features of one H x W."""
        return self.conv(student_feat)


class MLPDecoderTransform(HybridTransform):
    """Hybrid tokens without encoders: a small MLP on each patch, then DPK's ViT decoder.

    Args:
        student_channels: C_s.
        teacher_channels: C_t.
        patch_size: k, in cells of the teacher's feature.
        embed_dims: Width of both MLPs' hidden layer.
        decoder_embed_dims: Width of the decoder; ``embed_dims`` if None.
        decoder_depth: Blocks of the decoder.
        num_heads: Heads of the decoder.
        position_embedding: 'learnable' or 'sinusoidal'.
        position_grid: Token grid of the learnable table, interpolated for other sizes.
        prior: See :class:`HybridTransform`.

    Raises:
        ValueError: If a size is below 1, heads do not divide the width, or a name is unknown.

    Source: Table 8 and A.2 ("Decoder": both features are aligned through "a layer of simple MLP", positions are
    added, the decoder follows); the paper gives neither the hidden layer's width nor its activation (GELU here).
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        patch_size: int = 1,
        embed_dims: int = 512,
        decoder_embed_dims: int | None = None,
        decoder_depth: int = 4,
        num_heads: int = 8,
        position_embedding: str = 'learnable',
        position_grid: int | tuple[int, int] = 14,
        prior: str = 'teacher',
    ) -> None:
        width = decoder_embed_dims or embed_dims
        check_sizes(1, embed_dims=embed_dims, decoder_embed_dims=width)
        check_sizes(0, decoder_depth=decoder_depth)
        check_heads('num_heads', num_heads, 'decoder_embed_dims', width)
        super().__init__(student_channels, teacher_channels, patch_size, width, prior)
        self.student_embed = PatchEmbed(student_channels, embed_dims, patch_size)
        self.student_mlp = nn.Linear(embed_dims, width)
        if prior == 'teacher':
            self.teacher_embed = PatchEmbed(teacher_channels, embed_dims, patch_size)
            self.teacher_mlp = nn.Linear(embed_dims, width)
        self.decoder_position = PositionEmbedding(width, position_embedding, position_grid)
        self.decoder = Transformer(width, decoder_depth, num_heads)
        self.head = nn.Linear(width, teacher_channels * patch_size**2)
        self.apply(init_linear)

    def transform(self, student_feat: Tensor, teacher_feat: Tensor, mask: TokenMask) -> Tensor:
        """See :meth:`forward`; features of one H x W."""
        student = take_tokens(self.student_embed(student_feat), mask.student)
        student = self.student_mlp(F.gelu(student))
        teacher = None
        if self.prior == 'teacher':
            teacher = take_tokens(self.teacher_embed(teacher_feat), mask.teacher)
            teacher = self.teacher_mlp(F.gelu(teacher))
        tokens = self.stitch(student, teacher, mask)
        grid = grid_of((teacher_feat.shape[-2], teacher_feat.shape[-1]), self.patch_size)
        tokens = tokens + self.decoder_position(grid, tokens.device).to(tokens.dtype)
        return self.to_map(self.head(self.decoder(tokens)), teacher_feat)


class ConvEncoderDecoderTransform(HybridTransform):
    """Convolutions in place of the transformers: an encoder per stream and a decoder.

    Patches are embedded as in :class:`DPKTransform`; each block is a 3x3 convolution, a normalisation over all channels
    and cells of an image, which does not depend on the batch size, and ReLU; a 1x1 convolution decodes each patch.
    Masking comes first here, too: a masked token is zero before the student's encoder, and one that the teacher does
    not give before the teacher's. Unlike a transformer, a convolution cannot leave tokens out, so masking saves no
    time.

    Args:
        student_channels: C_s.
        teacher_channels: C_t.
        patch_size: k, in cells of the teacher's feature.
        embed_dims: Width of both encoders.
        encoder_depth: Blocks of each encoder.
        decoder_embed_dims: Width of the decoder; ``embed_dims`` if None.
        decoder_depth: Blocks of the decoder.
        encode_first: Encode all tokens and mask after the encoders.
        prior: See :class:`HybridTransform`.

    Raises:
        ValueError: If a size is below 1, a depth below 0, or the prior is unknown.

    Source: Table 8 ("Conv"). A.2 names "several convolutional layers, a pooling layer and a fully connected layer" and
    no sizes; here the patch embedding pools, and the 1x1 convolution is the fully connected layer of each position.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        patch_size: int = 1,
        embed_dims: int = 512,
        encoder_depth: int = 2,
        decoder_embed_dims: int | None = None,
        decoder_depth: int = 2,
        encode_first: bool = False,
        prior: str = 'teacher',
    ) -> None:
        width = decoder_embed_dims or embed_dims
        check_sizes(1, embed_dims=embed_dims, decoder_embed_dims=width)
        check_sizes(0, encoder_depth=encoder_depth, decoder_depth=decoder_depth)
        super().__init__(student_channels, teacher_channels, patch_size, width, prior)
        self.encode_first = encode_first
        self.student_embed = PatchEmbed(student_channels, embed_dims, patch_size)
        self.student_encoder = _conv_blocks(embed_dims, encoder_depth)
        if prior == 'teacher':
            self.teacher_embed = PatchEmbed(teacher_channels, embed_dims, patch_size)
            self.teacher_encoder = _conv_blocks(embed_dims, encoder_depth)
        self.encoder_to_decoder = nn.Conv2d(embed_dims, width, 1, bias=False)
        self.decoder = _conv_blocks(width, decoder_depth)
        self.head = nn.Conv2d(width, teacher_channels * patch_size**2, 1)

    def transform(self, student_feat: Tensor, teacher_feat: Tensor, mask: TokenMask) -> Tensor:
        """See :meth:`forward`; features of one H x W."""
        grid = grid_of((teacher_feat.shape[-2], teacher_feat.shape[-1]), self.patch_size)
        student = self._stream('student', student_feat, grid, mask)
        teacher = None
        if self.prior == 'teacher':
            teacher = self._stream('teacher', teacher_feat, grid, mask)
        tokens = self.stitch(student, teacher, mask)
        tokens = self.head(self.decoder(tokens.mT.unflatten(2, grid)))
        return self.to_map(tokens.flatten(2).mT, teacher_feat)

    def _stream(self, side: str, feature: Tensor, grid: tuple[int, int], mask: TokenMask) -> Tensor:
        """``[N, C, H, W]`` -> one side's encoded tokens, of the decoder's width."""
        index = getattr(mask, side)
        tokens = getattr(self, f'{side}_embed')(feature).mT.unflatten(2, grid)
        if not self.encode_first:
            chosen = tokens.new_zeros(tokens.shape[0], mask.num_tokens).scatter(1, index, 1.0)
            tokens = tokens * tokens_to_cells(chosen, grid, 1)
        tokens = self.encoder_to_decoder(getattr(self, f'{side}_encoder')(tokens))
        return take_tokens(tokens.flatten(2).mT, index)


def _conv_blocks(width: int, depth: int) -> nn.Sequential:
    blocks: list[nn.Module] = []
    for _ in range(depth):
        conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        blocks += [conv, nn.GroupNorm(1, width), nn.ReLU()]
    return nn.Sequential(*blocks)
