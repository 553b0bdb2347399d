"""DPK's transformation module T_s: student and teacher features to one hybrid feature."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.masking import TokenMask, random_mask, stitch_tokens, take_tokens
from .tokens import PatchEmbed, PositionEmbedding, grid_of, unpatchify
from .transformer import Transformer


class DPKTransform(nn.Module):
    """Builds the hybrid feature of one stage: the student's tokens, the teacher's in the holes.

    Both features are cut into k x k patches and embedded; a share ``mask_ratio`` of the student's tokens is dropped and
    the teacher's tokens at those places are taken instead. Each stream has its own ViT encoder; a shared linear
    layer brings both to the decoder's width, they are stitched together, get positions again and pass a ViT
    decoder, whose tokens are reassembled to a map of the teacher's shape.

    Mask first, then encode (as in MAE) is the default: each encoder sees only the tokens that survive, so the
    two together cost about one. With ``encode_first`` both encode all tokens and are masked then; the paper's text
    has both wordings, the authors' code masks first.

    Any input size works: maps are padded to whole patches and cropped back, positions follow the grid. A student
    feature of another H x W than the teacher's is resized to it (bilinear).

    Args:
        student_channels (int): C_s.
        teacher_channels (int): C_t.
        patch_size (int): k, in cells of the teacher's feature.
        embed_dims (int): Width d of both encoders.
        encoder_depth (int): Blocks of each encoder. The paper: 6.
        decoder_embed_dims (int, optional): Width of the decoder; ``embed_dims`` if None.
        decoder_depth (int): Blocks of the decoder. The paper: 6 for one stage, 4 for several.
        num_heads (int): Heads of the encoders.
        decoder_num_heads (int, optional): Heads of the decoder; ``num_heads`` if None.
        position_embedding (str): 'learnable' (the paper's text) or 'sinusoidal' (authors' code).
        position_grid (int | tuple[int, int]): Token grid of the learnable table, interpolated for other sizes.
        encode_first (bool): Encode all tokens and mask after the encoders.

    Raises:
        ValueError: If a size is below 1, heads do not divide a width, or the position embedding is unknown.

    Source: Section 2.2 and A.2, Eq. 4.
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
    ) -> None:
        super().__init__()
        decoder_embed_dims = decoder_embed_dims or embed_dims
        sizes = dict(
            student_channels=student_channels,
            teacher_channels=teacher_channels,
            patch_size=patch_size,
            embed_dims=embed_dims,
            decoder_embed_dims=decoder_embed_dims,
        )
        for name, value in sizes.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f'{name} must be a whole number of at least 1, but is {value!r}.')
        self.student_channels = student_channels
        self.teacher_channels = teacher_channels
        self.patch_size = patch_size
        self.encode_first = encode_first

        self.student_embed = PatchEmbed(student_channels, embed_dims, patch_size)
        self.teacher_embed = PatchEmbed(teacher_channels, embed_dims, patch_size)
        self.student_position = PositionEmbedding(embed_dims, position_embedding, position_grid)
        self.teacher_position = PositionEmbedding(embed_dims, position_embedding, position_grid)
        self.student_encoder = Transformer(embed_dims, encoder_depth, num_heads)
        self.teacher_encoder = Transformer(embed_dims, encoder_depth, num_heads)
        # One for both streams: what the encoders say has to mean the same to the decoder.
        self.encoder_to_decoder = nn.Linear(embed_dims, decoder_embed_dims, bias=False)
        self.decoder_position = PositionEmbedding(
            decoder_embed_dims, position_embedding, position_grid
        )
        self.decoder = Transformer(
            decoder_embed_dims, decoder_depth, decoder_num_heads or num_heads
        )
        self.head = nn.Linear(decoder_embed_dims, teacher_channels * patch_size**2)
        self.apply(self._init_linear)

    @staticmethod
    def _init_linear(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def num_tokens(self, feature_shape: tuple[int, int]) -> int:
        """Tokens of a teacher feature of (H, W)."""
        rows, columns = grid_of(feature_shape, self.patch_size)
        return rows * columns

    def forward(
        self,
        student_feat: Tensor,
        teacher_feat: Tensor,
        mask_ratio: float,
        mask: TokenMask | None = None,
    ) -> Tensor:
        """Builds the hybrid feature.

        Args:
            student_feat (Tensor): ``[N, C_s, h, w]``.
            teacher_feat (Tensor): ``[N, C_t, H, W]``; no gradient flows into it.
            mask_ratio (float): pi in [0, 1], share of tokens that the teacher gives. Ignored if ``mask`` is given.
            mask (TokenMask, optional): Which tokens the teacher gives; drawn at random if None.

        Returns:
            Tensor: ``[N, C_t, H, W]``.

        Raises:
            ValueError: If the channels are not those of the constructor or the ratio is outside [0, 1].
        """
        self._check(student_feat, 'student', self.student_channels)
        self._check(teacher_feat, 'teacher', self.teacher_channels)
        teacher_feat = teacher_feat.detach()
        shape = (teacher_feat.shape[-2], teacher_feat.shape[-1])
        if student_feat.shape[-2:] != shape:
            student_feat = F.interpolate(student_feat, shape, mode='bilinear', align_corners=False)
        grid, device = grid_of(shape, self.patch_size), teacher_feat.device
        if mask is None:
            mask = random_mask(teacher_feat.shape[0], grid[0] * grid[1], mask_ratio, device)

        student = self.student_embed(student_feat)
        teacher = self.teacher_embed(teacher_feat)
        student = student + self.student_position(grid, device).to(student.dtype)
        teacher = teacher + self.teacher_position(grid, device).to(teacher.dtype)
        if self.encode_first:
            student, teacher = self.student_encoder(student), self.teacher_encoder(teacher)
        student = take_tokens(student, mask.student)
        teacher = take_tokens(teacher, mask.teacher)
        if not self.encode_first:
            student, teacher = self.student_encoder(student), self.teacher_encoder(teacher)

        tokens = stitch_tokens(
            self.encoder_to_decoder(student), self.encoder_to_decoder(teacher), mask
        )
        tokens = tokens + self.decoder_position(grid, device).to(tokens.dtype)
        return unpatchify(self.head(self.decoder(tokens)), shape, self.patch_size)

    @staticmethod
    def _check(feature: Tensor, side: str, channels: int) -> None:
        if feature.ndim != 4 or feature.shape[1] != channels:
            raise ValueError(
                f'The {side} feature must be [N, {channels}, H, W] ({side}_channels={channels}), '
                f'but its shape is {tuple(feature.shape)}.'
            )


def count_parameters(module: nn.Module) -> int:
    """Trainable parameters of a module."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


__all__ = ['DPKTransform', 'count_parameters']
