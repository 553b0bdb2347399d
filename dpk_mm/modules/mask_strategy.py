"""Mask strategies: the rules by which the teacher's tokens of a stage are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..functional.mask_patterns import block_mask, check_block, grid_mask
from ..functional.masking import TokenMask, num_masked_tokens, random_mask
from ..functional.token_scores import (
    SELECTS,
    activation_scores,
    foreground_scores,
    gap_scores,
    select_by_scores,
    uncertainty_scores,
)
from .tokens import grid_of
from .transforms import check_arguments, unknown


@dataclass(frozen=True)
class MaskContext:
    """The inputs that some strategies need besides the features.

    Attributes:
        boxes: N tensors ``[G_i, 4]`` (x1, y1, x2, y2), pixels of the padded batch.
        image_shape: (height, width) of the padded batch, where there are boxes.
        class_weight: ``[K, C_t]``, the weight of the teacher's linear classifier.
        class_bias: ``[K]``, its bias.
    """

    boxes: Sequence[Tensor] | None = None
    image_shape: tuple[int, int] = (0, 0)
    class_weight: Tensor | None = None
    class_bias: Tensor | None = None


class MaskStrategy:
    """Base of all strategies: the features of a batch and a ratio in, a mask out.

    Every strategy masks the same number of tokens in each sample, the one nearest to the ratio that leaves both the
    student and the teacher at least one token; only ratios of exactly 0 and 1 give all tokens to one of them.

    Attributes:
        needs: 'boxes' or 'class_weight', where the context must have it.
    """

    needs: str | None = None

    def __call__(
        self,
        mask_ratio: float,
        student_feat: Tensor,
        teacher_feat: Tensor,
        patch_size: int = 1,
        context: MaskContext | None = None,
    ) -> TokenMask:
        """Draws a mask.

        Args:
            mask_ratio: pi in [0, 1].
            student_feat: ``[N, C_s, h, w]``.
            teacher_feat: ``[N, C_t, H, W]``, whose k x k patches are the tokens.
            patch_size: k.
            context: What the strategy ``needs``.

        Returns:
            The mask, with ``num_masked_tokens(L, mask_ratio)`` teacher tokens in every sample.

        Raises:
            ValueError: If the ratio is outside [0, 1], or the context lacks what the strategy ``needs``.
        """
        raise NotImplementedError


class RandomMask(MaskStrategy):
    """Uniformly random tokens; see :func:`dpk_mm.functional.random_mask`."""

    def __call__(
        self,
        mask_ratio: float,
        student_feat: Tensor,
        teacher_feat: Tensor,
        patch_size: int = 1,
        context: MaskContext | None = None,
    ) -> TokenMask:
        rows, columns = _grid(teacher_feat, patch_size)
        return random_mask(teacher_feat.shape[0], rows * columns, mask_ratio, teacher_feat.device)


class BlockMask(MaskStrategy):
    """Random rectangles; arguments of :func:`dpk_mm.functional.block_mask`.

    Args:
        min_area: Smallest rectangle, as a share of the map.
        aspect_ratio: Smallest rows / columns.
    """

    def __init__(self, min_area: float = 0.08, aspect_ratio: float = 0.3) -> None:
        check_block(min_area, aspect_ratio)
        self.min_area = min_area
        self.aspect_ratio = aspect_ratio

    def __call__(
        self,
        mask_ratio: float,
        student_feat: Tensor,
        teacher_feat: Tensor,
        patch_size: int = 1,
        context: MaskContext | None = None,
    ) -> TokenMask:
        return block_mask(
            teacher_feat.shape[0],
            _grid(teacher_feat, patch_size),
            mask_ratio,
            teacher_feat.device,
            min_area=self.min_area,
            aspect_ratio=self.aspect_ratio,
        )


class GridMask(MaskStrategy):
    """A regular grid; see :func:`dpk_mm.functional.grid_mask`."""

    def __call__(
        self,
        mask_ratio: float,
        student_feat: Tensor,
        teacher_feat: Tensor,
        patch_size: int = 1,
        context: MaskContext | None = None,
    ) -> TokenMask:
        grid = _grid(teacher_feat, patch_size)
        return grid_mask(teacher_feat.shape[0], grid, mask_ratio, teacher_feat.device)


class ScoresMask(MaskStrategy):
    """An active prior: the teacher gives tokens by their scores (A.10, future work).

    Args:
        score: 'teacher_activation', where the teacher is strong; 'gap', where student and teacher differ most;
            'foreground', where boxes are (detection); 'uncertainty', where the teacher's class evidence is spread
            over many classes (classification, a globally pooled teacher's last stage). See
            :mod:`dpk_mm.functional.token_scores`.
        select: 'sample', in proportion to the scores, or 'top', the highest.
        opposite: Reverses the rule, as a control.

    Raises:
        ValueError: If a name is unknown.
    """

    SCORES = ('teacher_activation', 'gap', 'foreground', 'uncertainty')

    def __init__(self, score: str = 'gap', select: str = 'sample', opposite: bool = False) -> None:
        for name, value, known in (('score', score, self.SCORES), ('select', select, SELECTS)):
            if value not in known:
                raise ValueError(f'{name} is {value!r}, {unknown(value, known)}')
        self.score = score
        self.select = select
        self.opposite = opposite
        self.needs = {'foreground': 'boxes', 'uncertainty': 'class_weight'}.get(score)

    def scores(
        self,
        student_feat: Tensor,
        teacher_feat: Tensor,
        patch_size: int = 1,
        context: MaskContext | None = None,
    ) -> Tensor:
        """The score of every token.

        Returns:
            ``[N, L]`` float32, at least 0.

        Raises:
            ValueError: If the context lacks what the score ``needs``.
        """
        context = context or MaskContext()
        if self.score == 'teacher_activation':
            return activation_scores(teacher_feat, patch_size)
        if self.score == 'gap':
            return gap_scores(student_feat, teacher_feat, patch_size)
        shape = (teacher_feat.shape[-2], teacher_feat.shape[-1])
        if self.score == 'foreground' and context.boxes is not None:
            return foreground_scores(context.boxes, context.image_shape, shape, patch_size)
        if self.score == 'uncertainty' and context.class_weight is not None:
            return uncertainty_scores(
                teacher_feat, context.class_weight, context.class_bias, patch_size
            )
        raise ValueError(f'mask with score={self.score!r} needs {self.needs}.')

    @torch.no_grad()
    def __call__(
        self,
        mask_ratio: float,
        student_feat: Tensor,
        teacher_feat: Tensor,
        patch_size: int = 1,
        context: MaskContext | None = None,
    ) -> TokenMask:
        scores = self.scores(student_feat, teacher_feat, patch_size, context)
        count = num_masked_tokens(scores.shape[1], mask_ratio)
        return select_by_scores(scores, count, self.select, self.opposite)


MASKS: dict[str, type[MaskStrategy]] = {
    'random': RandomMask,
    'block': BlockMask,
    'grid': GridMask,
    'scores': ScoresMask,
}
"""Name -> class; classes of your own can be added."""


def build_mask(cfg: str | Mapping[str, Any]) -> MaskStrategy:
    """Builds a mask strategy.

    Args:
        cfg: A name in ``MASKS``, or a dict of ``type``, the name, and the arguments of that class.

    Raises:
        ValueError: If the name or an argument is unknown or does not fit; the sentence starts with ``mask``.
    """
    kwargs = dict(type=cfg) if isinstance(cfg, str) else dict(cfg)
    kind = kwargs.pop('type', None)
    if kind is None:
        raise ValueError(f'mask needs type, one of {", ".join(MASKS)}.')
    if kind not in MASKS:
        raise ValueError(f'mask is {kind!r}, {unknown(kind, MASKS)}')
    try:
        check_arguments(MASKS[kind], kwargs)
        return MASKS[kind](**kwargs)
    except ValueError as error:
        separator = '.' if str(error).split(' ')[0] in kwargs else ': '
        raise ValueError(f'mask{separator}{error}') from error


def _grid(teacher_feat: Tensor, patch_size: int) -> tuple[int, int]:
    return grid_of((teacher_feat.shape[-2], teacher_feat.shape[-1]), patch_size)
