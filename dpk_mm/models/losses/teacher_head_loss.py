"""What a classifier's own head makes of the student's feature, or of a hybrid, against what it makes of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmrazor.models.losses import KLDivergence
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...errors import UsageError
from ..loss_parts.distill_loss import DistillLoss, at_least_float32
from ..loss_parts.logits import check_temperature


@MODELS.register_module()
class TeacherHeadLoss(DistillLoss):
    """A feature is read by the teacher's neck and head, for classifiers::

        feature = feature_weight * sum over levels of MSE(S_i, T_i)
        head    = head_weight * tau^2 * KL(softmax(h(T) / tau) || softmax(h(S) / tau))

    h is the teacher's neck and head, T and S the features that it reads. The mean squared error treats all directions
    of a feature alike; *head* weighs them by what the teacher's decision makes of them.

    As the ``criterion`` of a :class:`DPKLoss`, S is the hybrid, and the levels are those that have one. Alone, a 1x1
    convolution gives the student's feature the teacher's channels where these differ, and the loss is that of SRRL with
    a divergence in place of the squared error of the logits.

    Args:
        index: Place in the recorded tuple of the feature that the head reads: the last one, ``-1``.
        aligned_levels: Places of features that have the teacher's channels already and are compared, too; ``DPKLoss``
            sets those of its stages. () for the one that the head reads.
        student_channels: C_s of the feature that the head reads, where it is not aligned; hybrids are.
        teacher_channels: C_t, likewise.
        tau: Temperature, > 0.
        feature_weight: Factor of *feature*, >= 0.
        head_weight: Factor of *head*, >= 0.
        loss_weight: Factor of the whole loss.

    Raises:
        UsageError: (a ValueError) If the teacher is no classifier with a neck and a head, or the channels do not fit.
        ValueError: If an argument is out of its range.

    Source: Yang et al. 2021, "Knowledge Distillation via Softmax Regression Representation Learning", for reading a
    student's feature with the teacher's head; reading DPK's hybrid so is ours.
    """

    def __init__(
        self,
        index: int = -1,
        aligned_levels: Sequence[int] = (),
        student_channels: int | None = None,
        teacher_channels: int | None = None,
        tau: float = 4.0,
        feature_weight: float = 1.0,
        head_weight: float = 1.0,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(loss_weight)
        check_temperature(tau, 'TeacherHeadLoss')
        for name, value in dict(feature_weight=feature_weight, head_weight=head_weight).items():
            if not 0 <= value < float('inf'):
                raise ValueError(
                    f'{name} of TeacherHeadLoss must be a finite number >= 0, but is {value}; use 1.0.'
                )
        if (student_channels is None) != (teacher_channels is None):
            raise ValueError(
                'TeacherHeadLoss has one of student_channels and teacher_channels; give both, or none.'
            )
        self.index = index
        self.aligned = tuple(aligned_levels)
        self.feature_weight = feature_weight
        self.head_weight = head_weight
        self.divergence = KLDivergence(tau, 'batchmean')
        self.connector: nn.Module | None = None
        if student_channels is not None and student_channels != teacher_channels:
            self.connector = nn.Conv2d(student_channels, int(teacher_channels or 0), 1)
        # out of nn.Module's sight: the teacher is no part of the loss
        object.__setattr__(self, '_teacher', None)

    def prepare_from_teacher(self, model: nn.Module) -> None:
        """Keeps the teacher; the distiller calls it.

        Raises:
            UsageError: (a ValueError) If it is no classifier with a head of its own.
        """
        head = getattr(model, 'head', None)
        if head is None or not hasattr(head, 'fc'):
            found = 'no head' if head is None else f'a {type(head).__name__}'
            raise UsageError(
                f"TeacherHeadLoss reads features with the teacher's head and its layer fc, but {type(model).__name__} "
                f'has {found}; use a classifier of mmpretrain with a linear head, or another loss.'
            )
        object.__setattr__(self, '_teacher', model)

    def parts(
        self,
        student_feats: Sequence[Tensor],
        teacher_feats: Sequence[Tensor],
        data_samples: Sequence[Any] | None = None,
    ) -> dict[str, Tensor]:
        """The two terms.

        Args:
            student_feats: ``[N, C, H, W]`` each; hybrids in the places of DPK's stages.
            teacher_feats: ``[N, C_t, H, W]`` each, as the backbone gives them; no gradient flows into them.
            data_samples: Not used; ``DPKLoss`` hands them to its criterion.

        Returns:
            float32 scalars ``feature`` and ``head``.

        Raises:
            UsageError: (a ValueError) If no teacher was given, the features do not fit its head, or there is a
                convolution for one that is aligned.
        """
        places = range(len(student_feats))
        place = places[self.index]
        student, teacher = student_feats[place], teacher_feats[self.index].detach()
        # by place, since -1 and the place that it stands for are one level
        pairs = {places[i]: (student_feats[i], teacher_feats[i].detach()) for i in self.aligned}
        if self.connector is not None:
            if place in pairs:
                raise UsageError(
                    f"TeacherHeadLoss: feature {place} has the teacher's channels already, as DPK's hybrids have, so "
                    'that the convolution would never be trained; leave out student_channels and teacher_channels.'
                )
            student = self.connector(student)
        if student.dim() != 4 or student.shape != teacher.shape:
            raise UsageError(
                f"TeacherHeadLoss: the teacher's head reads feature {place}, {tuple(teacher.shape)} in the teacher, "
                f'but is given {tuple(student.shape)}; give the last stage a DPK transformation, or student_channels '
                'and teacher_channels, and use features [N, C, H, W] of equal size.'
            )
        pairs[place] = (student, teacher)
        with torch.autocast(student.device.type, enabled=False):
            errors = [
                F.mse_loss(at_least_float32(s), at_least_float32(t)) for s, t in pairs.values()
            ]
            with torch.no_grad():
                target = self._read(teacher)
            parts = {
                'feature': self.feature_weight * torch.stack(errors).sum(),
                'head': self.head_weight * self.divergence(self._read(student), target),
            }
        return {name: self.loss_weight * value for name, value in parts.items()}

    def _read(self, feature: Tensor) -> Tensor:
        """Logits ``[N, classes]`` of a feature ``[N, C_t, H, W]``, by the teacher's neck and head; at least float32."""
        model = self._teacher
        if model is None:
            raise UsageError(
                'TeacherHeadLoss was given no teacher; use the loss in a DPKDistiller, or call '
                'prepare_from_teacher(teacher).'
            )
        feats: Any = (feature.to(model.head.fc.weight.dtype),)
        if getattr(model, 'neck', None) is not None:
            feats = model.neck(feats)
        return at_least_float32(model.head(feats))
