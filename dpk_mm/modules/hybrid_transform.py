"""Base classes of the transformation modules: checks, the mask, and the prior."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.masking import TokenMask, random_mask, stitch_tokens, unmasked
from .tokens import grid_of, unpatchify


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raises ValueError if ``value`` is not one of ``known``."""
    if value not in known:
        raise ValueError(f'{name} must be one of {known}, but is {value!r}.')


def check_sizes(least: int, **sizes: int) -> None:
    """Raises ValueError if one of ``sizes`` is not a whole number of at least ``least``."""
    for name, value in sizes.items():
        if not isinstance(value, int) or value < least:
            raise ValueError(
                f'{name} must be a whole number of at least {least}, but is {value!r}.'
            )


def check_heads(heads_name: str, num_heads: int, width_name: str, width: int) -> None:
    """Raises ValueError if ``num_heads`` does not divide ``width``."""
    if not isinstance(num_heads, int) or num_heads < 1 or width % num_heads:
        raise ValueError(
            f'{heads_name} must divide the width, but {heads_name} is {num_heads} and the width '
            f'({width_name}) is {width}.'
        )


def init_linear(module: nn.Module) -> None:
    """Initialises a linear layer as MAE does: Xavier's uniform weights, biases of zero."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class FeatureTransform(nn.Module):
    """Base of all transformation modules T_s: a student feature in, one like the teacher's out.

    Args:
        student_channels: C_s.
        teacher_channels: C_t.
        patch_size: k, in cells of the teacher's feature.

    Attributes:
        uses_mask: Whether tokens of the student are masked at all. Where it is False, ``mask_ratio`` and
            ``mask`` are ignored.
    """

    uses_mask = False

    def __init__(self, student_channels: int, teacher_channels: int, patch_size: int = 1) -> None:
        super().__init__()
        check_sizes(
            1,
            student_channels=student_channels,
            teacher_channels=teacher_channels,
            patch_size=patch_size,
        )
        self.student_channels = student_channels
        self.teacher_channels = teacher_channels
        self.patch_size = patch_size

    def num_tokens(self, feature_shape: tuple[int, int]) -> int:
        """Number of tokens of a teacher feature of (H, W)."""
        rows, columns = grid_of(feature_shape, self.patch_size)
        return rows * columns

    def check_features(self, student_feat: Tensor, teacher_feat: Tensor) -> None:
        """Checks two features against the constructor's arguments.

        Raises:
            ValueError: If a feature is not ``[N, C, H, W]`` with the channels of its side, or a patch is larger than
                the teacher's feature.
        """
        for side, feature, channels in (
            ('student', student_feat, self.student_channels),
            ('teacher', teacher_feat, self.teacher_channels),
        ):
            if feature.ndim != 4 or feature.shape[1] != channels:
                raise ValueError(
                    f'The {side} feature must be [N, {channels}, H, W] ({side}_channels={channels}), '
                    f'but its shape is {tuple(feature.shape)}.'
                )
        height, width = teacher_feat.shape[-2:]
        if self.patch_size > min(height, width):
            raise ValueError(
                f"patch_size is {self.patch_size}, but the teacher's feature has {height} x {width} cells; use a "
                f'patch_size of at most {min(height, width)}, or larger images.'
            )

    def forward(
        self,
        student_feat: Tensor,
        teacher_feat: Tensor,
        mask_ratio: float,
        mask: TokenMask | None = None,
    ) -> Tensor:
        """Transforms the student's feature.

        Args:
            student_feat: ``[N, C_s, h, w]``; resized to H x W if it has another size (bilinear).
            teacher_feat: ``[N, C_t, H, W]``; no gradient flows into it.
            mask_ratio: pi in [0, 1], share of tokens that are masked. Ignored if ``mask`` is given.
            mask: Which tokens are masked; drawn at random if None.

        Returns:
            ``[N, C_t, H, W]``.

        Raises:
            ValueError: If the channels are not those of the constructor, a patch is larger than the teacher's feature,
                or the ratio is outside [0, 1].
        """
        self.check_features(student_feat, teacher_feat)
        teacher_feat = teacher_feat.detach()
        if not torch.is_autocast_enabled(teacher_feat.device.type):
            # a model in half precision without autocast, with modules in float32
            dtype = next((p.dtype for p in self.parameters()), student_feat.dtype)
            student_feat, teacher_feat = student_feat.to(dtype), teacher_feat.to(dtype)
        shape = (teacher_feat.shape[-2], teacher_feat.shape[-1])
        if student_feat.shape[-2:] != shape:
            student_feat = F.interpolate(student_feat, shape, mode='bilinear', align_corners=False)
        if not self.uses_mask:
            mask = unmasked(
                teacher_feat.shape[0], self.num_tokens(shape), device=teacher_feat.device
            )
        elif mask is None:
            mask = random_mask(
                teacher_feat.shape[0], self.num_tokens(shape), mask_ratio, teacher_feat.device
            )
        return self.transform(student_feat, teacher_feat, mask)

    def transform(self, student_feat: Tensor, teacher_feat: Tensor, mask: TokenMask) -> Tensor:
        """:meth:`forward` for features of one H x W and a given mask."""
        raise NotImplementedError


class HybridTransform(FeatureTransform):
    """Base of the modules that fill the student's masked tokens with a prior.

    Args:
        student_channels: C_s.
        teacher_channels: C_t.
        patch_size: k, in cells of the teacher's feature.
        decoder_embed_dims: Width of the tokens that are stitched.
        prior: What replaces the masked tokens: 'teacher', its tokens; 'zeros'; 'mask_token', one learnable vector;
            'none': nothing is masked, a plain encoder-decoder on all the student's tokens. The modules of the
            teacher's stream are built for 'teacher' alone.

    Raises:
        ValueError: If a size is below 1 or the prior is unknown.

    Source: Table 7 (the priors).
    """

    PRIORS = ('teacher', 'zeros', 'mask_token', 'none')

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        patch_size: int,
        decoder_embed_dims: int,
        prior: str,
    ) -> None:
        super().__init__(student_channels, teacher_channels, patch_size)
        check_choice('prior', prior, self.PRIORS)
        self.prior = prior
        self.uses_mask = prior != 'none'
        self.mask_token: nn.Parameter | None = None
        if prior == 'mask_token':
            self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_embed_dims))
            nn.init.trunc_normal_(self.mask_token, std=0.02)

    def stitch(self, student: Tensor, teacher: Tensor | None, mask: TokenMask) -> Tensor:
        """Puts the student's tokens and the prior in their places.

        Args:
            student: ``[N, L - M, D]``.
            teacher: ``[N, M, D]`` for the prior 'teacher', else None.
            mask: The places.

        Returns:
            ``[N, L, D]``.
        """
        if teacher is None:
            n, count = mask.teacher.shape
            if self.mask_token is None:
                teacher = student.new_zeros(n, count, student.shape[2])
            else:
                teacher = self.mask_token.to(student.dtype).expand(n, count, -1)
        return stitch_tokens(student, teacher, mask)

    def to_map(self, tokens: Tensor, like: Tensor) -> Tensor:
        """Decoded tokens ``[N, L, C_t * k * k]`` -> ``[N, C_t, H, W]``, cropped to ``like``."""
        return unpatchify(tokens, (like.shape[-2], like.shape[-1]), self.patch_size)
