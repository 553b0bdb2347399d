"""DPK's feature loss: hybrid features against the teacher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...modules import CKAMaskRatio, DPKTransform, MaskRatioPolicy


@MODELS.register_module()
class DPKLoss(nn.Module):
    """``L_feat = D_feat(T_s(F_s, F_t), F_t)`` (Eq. 4), summed over the distilled stages.

    For each stage a :class:`~dpk_mm.modules.DPKTransform` of its own builds the hybrid feature; ``mask_ratio``,
    a policy that a hook binds before training, gives the share of the teacher. D_feat is the mean squared error on
    the full map (classification), or a ``criterion`` such as :class:`FGDLoss` (Eq. 9): it sees the tuple of student
    features with the hybrids in their places, the other levels as they are.

    Args:
        transforms (dict[str, dict]): Stage name -> arguments of ``DPKTransform`` and ``index``, the place of the
            stage in the recorded tuples (or ``student_index`` and ``teacher_index``), optionally ``weight`` (1.0).
            A value of None drops a stage that a base config has.
        criterion (dict | nn.Module, optional): D_feat on the tuple of features; MSE if None.
        loss_weight (float): Factor of the loss, beta in Eq. 3.

    Raises:
        ValueError: If there is no stage, a stage lacks its index, or its arguments do not fit ``DPKTransform``.
    """

    def __init__(
        self,
        transforms: Mapping[str, Mapping[str, Any]],
        criterion: Mapping[str, Any] | nn.Module | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        stages = {name: dict(cfg) for name, cfg in transforms.items() if cfg is not None}
        if not stages:
            raise ValueError('DPKLoss: transforms names no stage; give at least one, such as P5.')
        self.student_index: dict[str, int] = {}
        self.teacher_index: dict[str, int] = {}
        self.stage_weight: dict[str, float] = {}
        self.transforms = nn.ModuleDict()
        for name, cfg in stages.items():
            index = cfg.pop('index', None)
            for side, indices in (('student', self.student_index), ('teacher', self.teacher_index)):
                place = cfg.pop(f'{side}_index', index)
                if place is None:
                    raise ValueError(
                        f'DPKLoss: transforms.{name} needs index, the place of the stage in the recorded '
                        'tuple of features.'
                    )
                indices[name] = place
            self.stage_weight[name] = cfg.pop('weight', 1.0)
            try:
                self.transforms[name] = DPKTransform(**cfg)
            except (TypeError, ValueError) as error:
                raise ValueError(f'DPKLoss: transforms.{name}: {error}') from error
        if criterion is not None:
            self._check_criterion_stages()
        if isinstance(criterion, Mapping):
            criterion = dict(criterion)
            # A hybrid has the teacher's width already: no alignment layer may be left without gradient.
            criterion.setdefault('aligned_levels', tuple(self.student_index.values()))
            criterion = MODELS.build(criterion)
        self.criterion = criterion
        self.loss_weight = loss_weight
        self.mask_ratio: MaskRatioPolicy = CKAMaskRatio()
        self._resized: set[str] = set()

    def _check_criterion_stages(self) -> None:
        """A criterion compares level i with level i, weighs levels itself, and sees one hybrid per level."""
        seen: dict[int, str] = {}
        for name, index in self.student_index.items():
            problem = None
            if index < 0:
                problem = f'index is {index}, but must be counted from 0'
            elif index != self.teacher_index[name]:
                problem = f'student_index {index} and teacher_index {self.teacher_index[name]} must be equal'
            elif self.stage_weight[name] != 1.0:
                problem = f'weight is {self.stage_weight[name]}, but levels are weighted by the criterion; leave it out'
            elif index in seen:
                problem = f'index {index} is taken by {seen[index]} already'
            if problem:
                raise ValueError(f'DPKLoss: transforms.{name}: with a criterion, {problem}.')
            seen[index] = name

    def forward(
        self,
        student_feats: Sequence[Tensor],
        teacher_feats: Sequence[Tensor],
        data_samples: Sequence[Any] | None = None,
    ) -> Tensor:
        """The weighted sum of all parts, a scalar. See :meth:`parts`."""
        return torch.stack(
            list(self.parts(student_feats, teacher_feats, data_samples).values())
        ).sum()

    def parts(
        self,
        student_feats: Sequence[Tensor],
        teacher_feats: Sequence[Tensor],
        data_samples: Sequence[Any] | None = None,
    ) -> dict[str, Tensor]:
        """The summands of the loss by name.

        Args:
            student_feats (Sequence[Tensor]): ``[N, C, H, W]`` each, as recorded.
            teacher_feats (Sequence[Tensor]): ``[N, C, H, W]`` each; no gradient flows into them.
            data_samples (Sequence, optional): Handed to the criterion.

        Returns:
            dict[str, Tensor]: Scalars; with MSE one for each stage, else what the criterion gives.

        Raises:
            ValueError: If a stage's index is out of range or its channels do not fit.
        """
        student_feats = _as_tuple(student_feats)
        teacher_feats = tuple(t.detach() for t in _as_tuple(teacher_feats))
        pairs = {}
        for name in self.transforms:
            student = self._pick(name, 'student', student_feats, self.student_index[name])
            teacher = self._pick(name, 'teacher', teacher_feats, self.teacher_index[name])
            if student.shape[-2:] != teacher.shape[-2:] and name not in self._resized:
                self._resized.add(name)
                print_log(
                    f'DPKLoss: stage {name}: the student feature of {tuple(student.shape[-2:])} is resized to the '
                    f"teacher's {tuple(teacher.shape[-2:])}.",
                    logger='current',
                )
            pairs[name] = (student, teacher)

        ratios = self.mask_ratio({n: (s.detach(), t) for n, (s, t) in pairs.items()})
        hybrids = {}
        for name, (student, teacher) in pairs.items():
            try:
                hybrids[name] = self.transforms[name](student, teacher, ratios[name])
            except ValueError as error:
                raise ValueError(f'DPKLoss: stage {name}: {error}') from error

        if self.criterion is None:
            with torch.autocast(teacher_feats[0].device.type, enabled=False):
                return {
                    name: self.loss_weight
                    * self.stage_weight[name]
                    * F.mse_loss(hybrid.float(), pairs[name][1].float())
                    for name, hybrid in hybrids.items()
                }
        mixed = list(student_feats)
        for name, hybrid in hybrids.items():
            mixed[self.student_index[name]] = hybrid
        parts = self.criterion.parts(tuple(mixed), teacher_feats, data_samples)
        return {name: self.loss_weight * value for name, value in parts.items()}

    @staticmethod
    def _pick(stage: str, side: str, feats: tuple[Tensor, ...], index: int) -> Tensor:
        if not -len(feats) <= index < len(feats):
            raise ValueError(
                f'DPKLoss: stage {stage} has index {index}, but the {side} recorder gives {len(feats)} features; '
                f'the index must be in 0..{len(feats) - 1}.'
            )
        return feats[index]


def _as_tuple(feats: Sequence[Tensor] | Tensor) -> tuple[Tensor, ...]:
    return (feats,) if isinstance(feats, Tensor) else tuple(feats)
