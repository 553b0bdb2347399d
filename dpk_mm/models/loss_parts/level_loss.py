"""The base of losses that compare a feature pyramid level by level."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from .distill_loss import WHOLE, DistillLoss, at_least_float32
from .level import Level, parse_levels
from .resizing import check_pair


class LevelLoss(DistillLoss):
    """Base of a loss that is a sum over levels of ``level weight * term(student, teacher)``.

    A subclass writes :meth:`term`, or :meth:`parts` if it needs more than features, with :meth:`pairs` and
    :meth:`by_levels`. Terms are computed in float32, also under autocast; the teacher gets no gradient.

    Args:
        levels: Which features are compared: indices into the recorded tuples, or dicts, such as
            ``dict(student_index=0, teacher_index=1, weight=10.0)``; see
            :func:`~dpk_mm.models.loss_parts.level.parse_levels`.
        student_channels: Channels of the student's features, where a level does not say its own.
        teacher_channels: Channels of the teacher's features.
        loss_weight: Factor of the whole loss, >= 0.
        by_level: Whether :meth:`parts` gives one number for each level, to see whether one level outweighs the
            others. The loss is the same.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        levels: Sequence[int | Mapping[str, Any]] = (0, 1, 2, 3),
        student_channels: int = 256,
        teacher_channels: int = 256,
        loss_weight: float = 1.0,
        by_level: bool = False,
    ) -> None:
        super().__init__(loss_weight)
        self.levels = parse_levels(levels, student_channels, teacher_channels, type(self).__name__)
        self.by_level = by_level
        self._resized: set[int] = set()
        self.align = nn.ModuleDict()
        for level in self.levels:
            key = self.align_key(level)
            if key not in self.align and (layer := self.make_align(level)) is not None:
                self.align[key] = layer

    def align_key(self, level: Level) -> str:
        """The name of the level's aligning layer; levels of one name share it."""
        return str(level.student)

    def make_align(self, level: Level) -> nn.Module | None:
        """The layer that gives the student's feature the teacher's channels: a 1x1 convolution, or none if equal."""
        if level.student_channels == level.teacher_channels:
            return None
        return nn.Conv2d(level.student_channels, level.teacher_channels, 1)

    def term(self, level: Level, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of one level, a scalar without the level's weight; both ``[N, C, H, W]``, of one shape."""
        raise NotImplementedError(f'{type(self).__name__} has to define term() or parts().')

    def parts(
        self, student_feats: Sequence[Tensor], teacher_feats: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """The loss as its only part, or with ``by_level`` one part for each level.

        Args:
            student_feats: ``[N, C_s, H, W]`` each, as recorded. A feature whose H or W differs from the teacher's is
                resized to it (bilinear); one of half its size or less, or of twice it or more, only with the level's
                ``resize=True``.
            teacher_feats: ``[N, C_t, H, W]`` each.

        Returns:
            float32 scalars: the whole, or ``level<index on the student's side>``.

        Raises:
            ValueError: If a level is not there, or its channels, its size or its batch are not as expected.
        """
        return self.by_levels(student_feats, teacher_feats, self.term)

    def by_levels(
        self,
        student_feats: Sequence[Tensor],
        teacher_feats: Sequence[Tensor],
        term: Callable[[Level, Tensor, Tensor], Tensor],
    ) -> dict[str, Tensor]:
        """What :meth:`parts` gives for ``term`` of every level."""
        zero = teacher_feats[0].new_zeros((), dtype=torch.float32)
        if not self.levels:  # all have the weight 0
            return {WHOLE: zero}
        values = {}
        with torch.autocast(teacher_feats[0].device.type, enabled=False):
            for level, student, teacher in self.pairs(student_feats, teacher_feats):
                value = term(level, student, teacher)
                values[f'level{level.student}'] = self.loss_weight * level.weight * value
        return values if self.by_level else {WHOLE: torch.stack(list(values.values())).sum()}

    def pairs(
        self, student_feats: Sequence[Tensor], teacher_feats: Sequence[Tensor]
    ) -> Iterator[tuple[Level, Tensor, Tensor]]:
        """Every level with the student's aligned and the teacher's feature, in float32, of one shape."""
        self._check_count(student_feats, 'student')
        self._check_count(teacher_feats, 'teacher')
        for level in self.levels:
            student, teacher = student_feats[level.student], teacher_feats[level.teacher].detach()
            self._check_shapes(level, student, teacher)
            student = self._resize(level, at_least_float32(student), teacher)
            key = self.align_key(level)
            if key in self.align:
                layer = self.align[key]
                # in the precision of the layer, which a model in float64 has converted
                student = layer(student.to(next(layer.parameters()).dtype))
            yield level, student, at_least_float32(teacher)

    def _resize(self, level: Level, student: Tensor, teacher: Tensor) -> Tensor:
        if student.shape[2:] == teacher.shape[2:]:
            return student
        name = type(self).__name__
        check_pair(
            student.shape[2:],
            teacher.shape[2:],
            level.resize,
            f'{name}: level {level.student}',
            'give levels dicts with student_index and teacher_index that have the same stride',
        )
        if level.student not in self._resized:
            self._resized.add(level.student)
            print_log(
                f"{name} resizes the student's feature of level {level.student} from {tuple(student.shape[2:])} to "
                f"{tuple(teacher.shape[2:])}, the size of the teacher's (said once).",
                logger='current',
                level=logging.INFO,
            )
        return F.interpolate(student, size=teacher.shape[2:], mode='bilinear', align_corners=False)

    def _check_shapes(self, level: Level, student: Tensor, teacher: Tensor) -> None:
        name = type(self).__name__
        for side, feature in (('student', student), ('teacher', teacher)):
            channels = getattr(level, f'{side}_channels')
            if feature.ndim != 4 or feature.shape[1] != channels:
                raise ValueError(
                    f"{name} expects the {side}'s feature of level {getattr(level, side)} to be [N, {channels}, H, W], "
                    f'but found {list(feature.shape)}; set {side}_channels as the features are.'
                )
        if student.shape[0] != teacher.shape[0]:
            raise ValueError(
                f'{name} needs the same images at level {level.student}, but found {student.shape[0]} of the student '
                f'and {teacher.shape[0]} of the teacher; give both the same batch.'
            )

    def _check_count(self, feats: Sequence[Tensor], side: str) -> None:
        indices = [getattr(level, side) for level in self.levels]
        if max(indices) >= len(feats):
            raise ValueError(
                f'{type(self).__name__} was given level {max(indices)} in levels={tuple(indices)}, but the {side} has '
                f'{len(feats)} features (0 to {len(feats) - 1}); take that level out, or record a module with more '
                'outputs.'
            )

    def extra_repr(self) -> str:
        """What a printed model shows."""
        levels = tuple(
            level.student if level.student == level.teacher else (level.student, level.teacher)
            for level in self.levels
        )
        return f'levels={levels}, loss_weight={self.loss_weight}'
