"""DPK's transformation module T_s: student and teacher features to one hybrid feature."""

from __future__ import annotations

from torch import Tensor, nn

from ..functional.masking import TokenMask, take_tokens
from .hybrid_transform import HybridTransform, check_heads, check_sizes, init_linear
from .tokens import PatchEmbed, PositionEmbedding, grid_of
from .transformer import Transformer


class DPKTransform(HybridTransform):
    """Builds the hybrid feature of one stage: the student's tokens, with the teacher's in the masked places.

    Both features are cut into k x k patches and embedded; a share ``mask_ratio`` of the student's tokens is dropped and
    the teacher's tokens at those places are taken instead. Each stream has its own ViT encoder; a shared linear
    layer brings both to the decoder's width, they are stitched together, a positional embedding is added again, and a
    ViT decoder follows, whose tokens are reassembled to a map of the teacher's shape.

    Mask first, then encode (as in MAE) is the default: each encoder gets only the tokens that are kept, so the two
    together cost about as much as one on all tokens. With ``encode_first`` both encode all tokens and are masked then;
    the paper's text has both wordings, the authors' code masks first.

    Any input size works: maps are padded to whole patches and cropped back, positions follow the grid. A student
    feature of another H x W than the teacher's is resized to it (bilinear).

    Args:
        student_channels: C_s.
        teacher_channels: C_t.
        patch_size: k, in cells of the teacher's feature.
        embed_dims: Width d of both encoders.
        encoder_depth: Blocks of each encoder. The paper: 6.
        decoder_embed_dims: Width of the decoder; ``embed_dims`` if None.
        decoder_depth: Blocks of the decoder. The paper: 6 for one stage, 4 for several.
        num_heads: Heads of the encoders.
        decoder_num_heads: Heads of the decoder; ``num_heads`` if None.
        position_embedding: 'learnable' (the paper's text) or 'sinusoidal' (authors' code).
        position_grid: Token grid of the learnable table, interpolated for other sizes.
        encode_first: Encode all tokens and mask after the encoders.
        prior: What replaces the masked tokens: 'teacher', 'zeros', 'mask_token' or 'none'; see
            :class:`HybridTransform`.

    Raises:
        ValueError: If a size is below 1, a depth below 0, heads do not divide a width, or the position embedding or the
            prior is unknown.

    Source: Section 2.2 and A.2, Eq. 4; the priors: Table 7.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        patch_size: int = 1,
        embed_dims: int = 512,
        encoder_depth: int = 6,
        decoder_embed_dims: int | None = None,
        decoder_depth: int = 4,
        num_heads: int = 8,
        decoder_num_heads: int | None = None,
        position_embedding: str = 'learnable',
        position_grid: int | tuple[int, int] = 14,
        encode_first: bool = False,
        prior: str = 'teacher',
    ) -> None:
        width = decoder_embed_dims or embed_dims
        check_sizes(1, embed_dims=embed_dims, decoder_embed_dims=width)
        check_sizes(0, encoder_depth=encoder_depth, decoder_depth=decoder_depth)
        heads = decoder_num_heads or num_heads
        check_heads('num_heads', num_heads, 'embed_dims', embed_dims)
        heads_name = 'decoder_num_heads' if decoder_num_heads else 'num_heads'
        check_heads(heads_name, heads, 'decoder_embed_dims', width)
        super().__init__(student_channels, teacher_channels, patch_size, width, prior)
        self.encode_first = encode_first

        self.student_embed = PatchEmbed(student_channels, embed_dims, patch_size)
        if prior == 'teacher':
            self.teacher_embed = PatchEmbed(teacher_channels, embed_dims, patch_size)
        self.student_position = PositionEmbedding(embed_dims, position_embedding, position_grid)
        if prior == 'teacher':
            self.teacher_position = PositionEmbedding(embed_dims, position_embedding, position_grid)
        self.student_encoder = Transformer(embed_dims, encoder_depth, num_heads)
        if prior == 'teacher':
            self.teacher_encoder = Transformer(embed_dims, encoder_depth, num_heads)
        # One layer for both streams, so that the decoder gets their tokens in one space.
        self.encoder_to_decoder = nn.Linear(embed_dims, width, bias=False)
        self.decoder_position = PositionEmbedding(width, position_embedding, position_grid)
        self.decoder = Transformer(width, decoder_depth, heads)
        self.head = nn.Linear(width, teacher_channels * patch_size**2)
        self.apply(init_linear)

    def transform(self, student_feat: Tensor, teacher_feat: Tensor, mask: TokenMask) -> Tensor:
        """See :meth:`forward`; features of one H x W."""
        grid = grid_of((teacher_feat.shape[-2], teacher_feat.shape[-1]), self.patch_size)
        student = self._stream('student', student_feat, grid, mask.student)
        teacher = None
        if self.prior == 'teacher':
            teacher = self._stream('teacher', teacher_feat, grid, mask.teacher)
        tokens = self.stitch(student, teacher, mask)
        tokens = tokens + self.decoder_position(grid, tokens.device).to(tokens.dtype)
        return self.to_map(self.head(self.decoder(tokens)), teacher_feat)

    def _stream(self, side: str, feature: Tensor, grid: tuple[int, int], index: Tensor) -> Tensor:
        """``[N, C, H, W]`` -> the encoded tokens at ``index``, of the decoder's width."""
        tokens = getattr(self, f'{side}_embed')(feature)
        position = getattr(self, f'{side}_position')(grid, feature.device)
        encoder = getattr(self, f'{side}_encoder')
        tokens = tokens + position.to(tokens.dtype)
        if self.encode_first:
            tokens = take_tokens(encoder(tokens), index)
        else:
            tokens = encoder(take_tokens(tokens, index))
        return self.encoder_to_decoder(tokens)
