"""FGD's focal and global distillation of detector features."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...functional import foreground_background_masks
from ...functional.attention import attention_of
from ...functional.residual_statistics import residual_statistics
from ...modules.context_block import ContextBlock
from ..loss_parts.distill_loss import DistillLoss, at_least_float32
from ..loss_parts.fgd_weights import resolve_weights
from ..loss_parts.ground_truth import boxes_of
from ..loss_parts.level import Level, parse_levels
from ..loss_parts.resizing import check_pair

_PARTS = ('foreground', 'background', 'attention', 'context')


@MODELS.register_module()
class FGDLoss(DistillLoss):
    """FGD: squared feature differences, weighted by boxes and by the teacher's attention.

    For every level, with D = T - S and batch size N::

        foreground = alpha * sum(M_fg * A_S * sum_c(A_C * D^2)) / N
        background = beta  * sum(M_bg * A_S * sum_c(A_C * D^2)) / N
        attention  = gamma * (sum|A_C(S) - A_C(T)| + sum|A_S(S) - A_S(T)|) / N
        context    = lam   * sum(((S + ctx_S(S)) - (T + ctx_T(T)))^2) / N

    ``M`` are the masks of the boxes in the padded batch, ``A_S`` and ``A_C`` the teacher's
    attention. Everything is computed in float32 or more, also under autocast. The teacher's features get no
    gradient, but its context block does: both blocks are trained. A term whose weight is 0 is not
    computed, and has no parameters.

    Any boxes are taken as they come (see :func:`~dpk_mm.functional.foreground_background_masks`); an
    image without any is all background. So are ``ignored_instances``, which mmdet keeps apart: FGD
    knows foreground and background only. Where a feature is not finite, or its squared difference
    leaves float32 (beyond about 1e19), the loss is inf or NaN and never an ordinary number.

    Args:
        levels: Which features are compared: indices into the recorded tuples, or dicts, such as
            ``dict(student_index=0, teacher_index=1, weight=10.0)`` or ``dict(index=2, student_channels=96)``; see
            :func:`~dpk_mm.models.loss_parts.level.parse_levels`. Levels to which no box of the data set is ever
            assigned, such as P6 and P7 of small images, should be left out: the teacher's features there are
            untaught and can be many times larger than the others, and the loss is quadratic in them.
        student_channels: Channels of the student's features, where a level does not say its own.
        teacher_channels: Channels of the teacher's features. Where the two differ, a 1x1 convolution aligns the
            student.
        weights: alpha, beta, gamma and lam, or the name of a published set; see :func:`resolve_weights`.
        temperature: T of both attentions, > 0. The authors' code has 0.5, and 0.8 for FCOS.
        aligned_levels: Student's indices of levels whose feature has the teacher's channels already, such as the
            output of a transformation module; they get no convolution.
        loss_weight: Factor of the whole loss, >= 0.
        by_level: Whether :meth:`parts` gives one number for each level, the sum of its four terms, instead of one for
            each term: to see whether one level drowns the others. The loss is the same.

    Raises:
        ValueError: If an argument is out of its range.

    Source: FGD, Eq. 8 and 9 of DPK, whose text leaves out the scale mask, the attention and the
    context terms that its code has. The authors' code scales boxes by each image's own shape.
    """

    def __init__(
        self,
        levels: Sequence[int | Mapping[str, Any]] = (0, 1, 2, 3),
        student_channels: int = 256,
        teacher_channels: int = 256,
        weights: str | Mapping[str, Any] = 'fgd_two_stage',
        temperature: float = 0.5,
        aligned_levels: Sequence[int] = (),
        loss_weight: float = 1.0,
        by_level: bool = False,
    ) -> None:
        super().__init__(loss_weight)
        self.levels = parse_levels(levels, student_channels, teacher_channels, 'FGDLoss')
        if not temperature > 0:
            raise ValueError(f'temperature of FGDLoss must be > 0, but is {temperature}; use 0.5.')
        self.weights = resolve_weights(weights)
        self.temperature = temperature
        self.aligned_levels = frozenset(aligned_levels)
        self.by_level = by_level
        self._resized: set[int] = set()
        self._scale: dict[int, float] = {level.student: level.weight for level in self.levels}

        # A parameter that no term uses would stop DistributedDataParallel, so none is made.
        self.align = nn.ModuleDict()
        self.student_context = nn.ModuleDict()
        self.teacher_context = nn.ModuleDict()
        for level in self.levels:
            # by the student's index, as in checkpoints of earlier releases
            key = str(level.student)
            if not self._aligned(level) and any(self.weights):
                self.align[key] = nn.Conv2d(level.student_channels, level.teacher_channels, 1)
            if self.weights.lam:
                self.student_context[key] = ContextBlock(level.teacher_channels)
                self.teacher_context[key] = ContextBlock(level.teacher_channels)

    def scale_level(self, student: int, factor: float) -> None:
        """Weighs one level anew, such as a loss that puts hybrid features into some of them.

        Args:
            student: The level's index on the student's side.
            factor: >= 0; the level's own weight is multiplied by it.
        """
        self._scale[student] *= factor

    def parts(
        self,
        student_feats: Sequence[Tensor],
        teacher_feats: Sequence[Tensor],
        data_samples: Sequence[Any] | None = None,
    ) -> dict[str, Tensor]:
        """The four terms, weighted and summed over levels, or with ``by_level`` the levels, summed over terms.

        Args:
            student_feats: ``[N, C_s, H, W]`` each, as recorded. A feature whose H or W differs from the teacher's is
                resized to it (bilinear); one of half its size or less, or of twice it or more, only with the level's
                ``resize=True``.
            teacher_feats: ``[N, C_t, H, W]`` each.
            data_samples: N samples with ``gt_instances.bboxes`` in pixels of the padded batch, and
                ``batch_input_shape`` in the first one's metainfo. Not needed if alpha and beta are 0.

        Returns:
            float32 scalars ``foreground``, ``background``, ``attention`` and ``context``; zero where the weight is 0.
            With ``by_level`` ``level<index on the student's side>``.

        Raises:
            ValueError: If a level is not there, its channels or its batch are not as expected, or
                boxes or ``batch_input_shape`` are missing.
        """
        self._check_levels(student_feats, 'student')
        self._check_levels(teacher_feats, 'teacher')
        if not self.levels:  # all have the weight 0
            return {name: teacher_feats[0].new_zeros((), dtype=torch.float32) for name in _PARTS}
        first = teacher_feats[self.levels[0].teacher]
        boxes: list[Tensor] = []
        image_shape = (0, 0)
        if self.weights.alpha or self.weights.beta:
            boxes, image_shape = boxes_of(data_samples, first, 'FGDLoss')

        names = [_name(level) for level in self.levels] if self.by_level else _PARTS
        total = {name: first.new_zeros((), dtype=torch.float32) for name in names}
        if not any(self.weights):
            return total
        for level in self.levels:
            student, teacher = student_feats[level.student], teacher_feats[level.teacher].detach()
            with torch.autocast(teacher.device.type, enabled=False):
                terms = self._level(level, student, teacher, boxes, image_shape)
            weight = self.loss_weight * self._scale[level.student]
            for term, value in terms.items():
                name = _name(level) if self.by_level else term
                total[name] = total[name] + weight * value
        return total

    def _level(
        self,
        level: Level,
        student: Tensor,
        teacher: Tensor,
        boxes: list[Tensor],
        image_shape: tuple[int, int],
    ) -> dict[str, Tensor]:
        student = self._fit(level, student, teacher)
        # the statistics are of one precision; half precision they widen themselves, block by block
        wide = torch.float32
        if torch.float64 in (student.dtype, teacher.dtype):
            wide = torch.float64
            student, teacher = student.double(), teacher.double()
        alpha, beta, gamma, lam = self.weights
        n, _, *size = teacher.shape
        cells = size[0] * size[1]
        key = str(level.student)
        contexts = (self.student_context[key], self.teacher_context[key]) if lam else ()
        keys = [context.w_k.weight.to(wide) for context in contexts] or [None, None]
        # Every term is a function of these small tensors: no other one as large as a feature is made.
        found = residual_statistics(student, teacher, *keys, self.temperature)
        terms: dict[str, Tensor] = {}

        spatial = attention_of(found.teacher_spatial, self.temperature)  # [N, HW]
        if alpha or beta:
            error = (spatial * found.error).view(n, *size)
            foreground, background = foreground_background_masks(boxes, image_shape, tuple(size))
            if alpha:
                terms['foreground'] = alpha * (foreground * error).sum() / n
            if beta:
                terms['background'] = beta * (background * error).sum() / n
        if gamma:
            own, given, place = (
                attention_of(strength, self.temperature)
                for strength in (
                    found.student_channel,
                    found.teacher_channel,
                    found.student_spatial,
                )
            )
            gap = (own - given).abs().sum() + (place - spatial).abs().sum()
            terms['attention'] = gamma * gap / n
        if lam:
            # out_S - out_T = delta - D with one delta per image and channel, so the outputs are
            # never made: sum (delta - D)^2 = sum (D - mean D)^2 + HW (delta - mean D)^2. Both are
            # squares: the sum of D^2 - 2 delta D + delta^2 is the same number, but where delta
            # comes close to D it loses every digit and turns negative.
            pooled = (found.student_pooled, found.teacher_pooled)
            term_s, term_t = (
                c.term(p.to(c.w_v1.weight.dtype)).to(wide)
                for c, p in zip(contexts, pooled, strict=True)
            )
            off = (term_s - term_t - found.mean).square()
            terms['context'] = lam * (found.spread + cells * off).sum() / n
        return terms

    def _aligned(self, level: Level) -> bool:
        """Whether the student's feature needs no convolution."""
        same = level.student_channels == level.teacher_channels
        return same or level.student in self.aligned_levels

    def _fit(self, level: Level, student: Tensor, teacher: Tensor) -> Tensor:
        """The student's feature with the teacher's size and channels."""
        same = self._aligned(level)
        expected = level.teacher_channels if same else level.student_channels
        for side, index, feature, channels, argument in (
            (
                'student',
                level.student,
                student,
                expected,
                'teacher_channels' if same else 'student_channels',
            ),
            ('teacher', level.teacher, teacher, level.teacher_channels, 'teacher_channels'),
        ):
            if feature.ndim != 4 or feature.shape[1] != channels:
                raise ValueError(
                    f"FGDLoss expects the {side}'s feature of level {index} to be [N, {channels}, "
                    f'H, W], but found {list(feature.shape)}; set {argument}, or aligned_levels, as '
                    'the features are.'
                )
        if student.shape[0] != teacher.shape[0]:
            raise ValueError(
                f'FGDLoss needs the same images at level {level.student}, but found {student.shape[0]} of '
                f'the student and {teacher.shape[0]} of the teacher; give both the same batch.'
            )
        if student.shape[2:] != teacher.shape[2:]:
            check_pair(
                student.shape[2:],
                teacher.shape[2:],
                level.resize,
                f'FGDLoss: level {level.student}',
                'give levels dicts with student_index and teacher_index that have the same stride',
            )
            if level.student not in self._resized:
                self._resized.add(level.student)
                print_log(
                    f"FGDLoss resizes the student's feature of level {level.student} from "
                    f'{tuple(student.shape[2:])} to {tuple(teacher.shape[2:])}, the size of the '
                    "teacher's (said once).",
                    logger='current',
                    level=logging.INFO,
                )
            student = F.interpolate(
                at_least_float32(student),
                size=teacher.shape[2:],
                mode='bilinear',
                align_corners=False,
            )
        if same:
            return student
        align = self.align[str(level.student)]
        # in the precision of the convolution, which a model in float64 or bfloat16 has converted
        return align(student.to(align.weight.dtype))

    def _check_levels(self, feats: Sequence[Tensor], side: str) -> None:
        indices = [getattr(level, side) for level in self.levels]
        if max(indices, default=-1) >= len(feats):
            raise ValueError(
                f'FGDLoss was given level {max(indices)} in levels={tuple(indices)}, but the {side} has '
                f'{len(feats)} features (0 to {len(feats) - 1}); take that level out, or record '
                'a module with more outputs.'
            )

    def extra_repr(self) -> str:
        """What a printed model shows."""
        levels = tuple(
            level.student if level.student == level.teacher else (level.student, level.teacher)
            for level in self.levels
        )
        return (
            f'levels={levels}, weights={tuple(self.weights)}, '
            f'temperature={self.temperature}, loss_weight={self.loss_weight}'
        )


def _name(level: Level) -> str:
    return f'level{level.student}'
