"""DPK's transformation module T_s: student and teacher features to one hybrid feature."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..functional.masking import TokenMask, take_tokens
from .hybrid_transform import (
    HybridTransform,
    check_choice,
    check_heads,
    check_sizes,
    init_linear,
)
from .tokens import OrthogonalPatchEmbed, PatchEmbed, PositionEmbedding, grid_of
from .transformer import Transformer

STUDENT_EMBEDS = ('own', 'tied', 'orthogonal')
TEACHER_ENCODERS = ('own', 'shared', 'average')
AVERAGE_MOMENTUM = 0.99


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
        student_embed: The patch embedding of the student: one of its 'own'; 'tied', that of the teacher, for features
            of equal width; or 'orthogonal', an :class:`~dpk_mm.modules.tokens.OrthogonalPatchEmbed`. The latter two
            cannot turn the student's basis into the teacher's in the student's place.
        teacher_encoder: The teacher's encoder: one of its 'own'; 'shared', that of the student; or 'average', the
            moving average of the student's, which has no gradient.
        average_momentum: Of that average, in [0, 1]; it is brought forward in each forward pass of a training.

    Raises:
        ValueError: If a size is below 1, a depth below 0, heads do not divide a width, the momentum is outside [0, 1]
            or of no average, a name is unknown, or what it stands for needs the prior 'teacher' or equal widths.

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
        student_embed: str = 'own',
        teacher_encoder: str = 'own',
        average_momentum: float = AVERAGE_MOMENTUM,
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
        self._check_forms(student_embed, teacher_encoder, average_momentum)
        self.tied = student_embed == 'tied'
        self.teacher_encoder_form = teacher_encoder
        self.average_momentum = average_momentum

        embed = OrthogonalPatchEmbed if student_embed == 'orthogonal' else PatchEmbed
        if not self.tied:
            self.student_embed = embed(student_channels, embed_dims, patch_size)
        if prior == 'teacher':
            self.teacher_embed = PatchEmbed(teacher_channels, embed_dims, patch_size)
        self.student_position = PositionEmbedding(embed_dims, position_embedding, position_grid)
        if prior == 'teacher':
            self.teacher_position = PositionEmbedding(embed_dims, position_embedding, position_grid)
        self.student_encoder = Transformer(embed_dims, encoder_depth, num_heads)
        if prior == 'teacher' and teacher_encoder != 'shared':
            self.teacher_encoder = Transformer(embed_dims, encoder_depth, num_heads)
        # One layer for both streams, so that the decoder gets their tokens in one space.
        self.encoder_to_decoder = nn.Linear(embed_dims, width, bias=False)
        self.decoder_position = PositionEmbedding(width, position_embedding, position_grid)
        self.decoder = Transformer(width, decoder_depth, heads)
        self.head = nn.Linear(width, teacher_channels * patch_size**2)
        self.apply(init_linear)
        if teacher_encoder == 'average':
            self.teacher_encoder.load_state_dict(self.student_encoder.state_dict())
            self.teacher_encoder.requires_grad_(False)

    def _check_forms(self, student_embed: str, teacher_encoder: str, momentum: float) -> None:
        check_choice('student_embed', student_embed, STUDENT_EMBEDS)
        check_choice('teacher_encoder', teacher_encoder, TEACHER_ENCODERS)
        for name, value in (('student_embed', student_embed), ('teacher_encoder', teacher_encoder)):
            if value in ('tied', 'shared', 'average') and self.prior != 'teacher':
                raise ValueError(
                    f"{name} is {value!r}, but with prior={self.prior!r} there are no teacher's tokens; leave it out."
                )
        if student_embed == 'tied' and self.student_channels != self.teacher_channels:
            raise ValueError(
                f"student_embed is 'tied', which needs features of equal width, but the student has "
                f"{self.student_channels} channels and the teacher {self.teacher_channels}; use 'orthogonal'."
            )
        if not 0 <= momentum <= 1:
            raise ValueError(f'average_momentum must be in [0, 1], but is {momentum}.')
        if momentum != AVERAGE_MOMENTUM and teacher_encoder != 'average':
            raise ValueError(
                f'average_momentum is {momentum}, but teacher_encoder is {teacher_encoder!r}, which averages nothing; '
                "leave average_momentum out, or set teacher_encoder='average'."
            )

    @torch.no_grad()
    def _follow(self) -> None:
        """Brings the averaged encoder forward."""
        pairs = zip(
            self.teacher_encoder.parameters(), self.student_encoder.parameters(), strict=True
        )
        for average, parameter in pairs:
            average.lerp_(parameter, 1 - self.average_momentum)

    def transform(self, student_feat: Tensor, teacher_feat: Tensor, mask: TokenMask) -> Tensor:
        """See :meth:`forward`; features of one H x W."""
        if self.teacher_encoder_form == 'average' and self.training and torch.is_grad_enabled():
            self._follow()
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
        embed, encoder = f'{side}_embed', f'{side}_encoder'
        if self.tied:
            embed = 'teacher_embed'
        if self.teacher_encoder_form == 'shared':
            encoder = 'student_encoder'
        tokens = getattr(self, embed)(feature)
        position = getattr(self, f'{side}_position')(grid, feature.device)
        encoder = getattr(self, encoder)
        tokens = tokens + position.to(tokens.dtype)
        if self.encode_first:
            tokens = take_tokens(encoder(tokens), index)
        else:
            tokens = encoder(take_tokens(tokens, index))
        return self.encoder_to_decoder(tokens)
