"""GID on ground-truth boxes: features of instances, and their distances to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ..loss_parts.ground_truth import boxes_of
from ..loss_parts.instances import pool_instances
from ..loss_parts.level import Level
from ..loss_parts.level_loss import LevelLoss


@MODELS.register_module()
class GIDLoss(LevelLoss):
    """Two of GID's three terms, on the ground-truth boxes: instances' features, and the distances between them.

    With t and s the features of the K instances of a batch, each cut out of the level of its size by RoIAlign (the
    student's after a 3x3 convolution f, which levels of the same channels share)::

        feature  = feature_weight  * sum over instances of |t_i - s_i|^2 / (K cells^2)
        relation = relation_weight * mean over pairs i != j of smooth_l1(d_T(i, j), d_S(i, j))

    d(i, j) is the Euclidean distance of two instances divided by the mean of all pairs.

    Left out, since it needs the predictions of both heads: the choice of general instances (where teacher and student
    disagree most, which includes objects that nobody has labelled), in whose place the boxes stand, and the response
    term on the heads' outputs. A table that compares with published numbers of GID should say so.

    Fewer than three instances have no relation: the term is 0.

    Args:
        levels: As of :class:`~dpk_mm.models.loss_parts.level_loss.LevelLoss`.
        student_channels: Channels of the student's features, where a level does not say its own.
        teacher_channels: Channels of the teacher's features.
        feature_weight: lambda_1, >= 0, of a term that is a mean over cells; the term of the paper is the sum over the
            cells of an instance, so that its weight is ``cells^2`` times smaller.
        relation_weight: lambda_2, >= 0.
        cells: Side of an instance's feature.
        loss_weight: Factor of the whole loss.

    Raises:
        ValueError: If an argument is out of its range.

    Source: Dai et al. 2021, "General Instance Distillation for Object Detection", feature-based and
    relation-based distillation. Weights and means are those of the first author's unfinished code, in whose training
    the convolution f is built and never run.
    """

    def __init__(
        self,
        levels: Sequence[int | Mapping[str, Any]] = (0, 1, 2, 3),
        student_channels: int = 256,
        teacher_channels: int = 256,
        feature_weight: float = 0.0005,
        relation_weight: float = 40.0,
        cells: int = 10,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(levels, student_channels, teacher_channels, loss_weight)
        for name, value in (
            ('feature_weight', feature_weight),
            ('relation_weight', relation_weight),
        ):
            if not 0 <= value < float('inf'):
                raise ValueError(f'{name} of GIDLoss must be a finite number >= 0, but is {value}.')
        if any(level.weight != 1 for level in self.levels):
            raise ValueError(
                'levels of GIDLoss take no weight: an instance is of one level, and weighs as all others; take weight '
                'out.'
            )
        if cells < 1:
            raise ValueError(f'cells of GIDLoss must be >= 1, but is {cells}; use 10.')
        self.feature_weight = feature_weight
        self.relation_weight = relation_weight
        self.cells = cells

    def align_key(self, level: Level) -> str:
        """By channels: levels of the same channels share f."""
        return f'{level.student_channels}_{level.teacher_channels}'

    def make_align(self, level: Level) -> nn.Module:
        """f, a 3x3 convolution."""
        return nn.Conv2d(level.student_channels, level.teacher_channels, 3, padding=1)

    def parts(
        self,
        student_feats: Sequence[Tensor],
        teacher_feats: Sequence[Tensor],
        data_samples: Sequence[Any],
    ) -> dict[str, Tensor]:
        """The two terms.

        Args:
            student_feats: ``[N, C_s, H, W]`` each, as recorded.
            teacher_feats: ``[N, C_t, H, W]`` each; C_t has to be that of all levels.
            data_samples: N samples with ``gt_instances.bboxes`` in pixels of the padded batch, and
                ``batch_input_shape`` in the first one's metainfo.

        Returns:
            float32 scalars ``feature`` and ``relation``.

        Raises:
            ValueError: If a level, boxes or ``batch_input_shape`` are missing, or channels or sizes are not as
                expected.
        """
        boxes, image_shape = boxes_of(data_samples, teacher_feats[0], 'GIDLoss')
        with torch.autocast(teacher_feats[0].device.type, enabled=False):
            found = list(self.pairs(student_feats, teacher_feats))
            student, teacher = [s for _, s, _ in found], [t for _, _, t in found]
            s, t = pool_instances([student, teacher], boxes, image_shape, self.cells)
            # A batch without boxes still needs a gradient for all parameters, and a NaN outside of boxes stays one.
            zero = sum(0 * level.sum() for level in (*student, *teacher))
            feature = (t - s).square().sum() / max(len(s) * self.cells**2, 1) + zero
            relation = zero
            if len(s) > 2:
                relation = zero + _relation(s.flatten(1), t.flatten(1))
        return dict(
            feature=self.loss_weight * self.feature_weight * feature,
            relation=self.loss_weight * self.relation_weight * relation,
        )


def _relation(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over pairs of the smooth L1 difference of relative distances; ``[K, D]`` each."""
    pairs = len(student) * (len(student) - 1)
    relative = []
    for side in (student, teacher):
        # not by the product of matrices, which loses the digits of small distances
        distances = torch.cdist(side, side, compute_mode='donot_use_mm_for_euclid_dist')
        mean = distances.sum() / pairs
        relative.append(distances / mean.clamp(min=1e-12))
    return F.smooth_l1_loss(*relative, reduction='sum') / pairs
