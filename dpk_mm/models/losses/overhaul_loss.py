"""OFD: the teacher's feature before the ReLU, without what is far below zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...errors import UsageError, did_you_mean
from ..loss_parts.feature_stage import FeatureStage
from ..loss_parts.regressor import apply_layers, check_same_size, connector, pool_to
from ..loss_parts.stage_loss import StageLoss


@MODELS.register_module()
class OverhaulLoss(StageLoss):
    """OFD: ``(S - max(T, m))^2`` where ``S > max(T, m)`` or ``T > 0``, summed over the cells, mean over the images.

    Both features are those *before* the ReLU (``preact=True`` of our CIFAR backbones); S is the student's after a 1x1
    convolution with batch normalisation, which is trained with it. m < 0 is the *margin* of a channel, the mean of the
    teacher's negative values. It comes from one of these, by stage:

    - ``teacher_bn='layer1.8.bn2'``, the name of the teacher's batch normalisation before that ReLU (its end suffices
      where it is unique): ``E[x | x < 0]`` of a normal distribution with the mean and deviation that its bias and
      weight give, as in the authors' code. It follows the teacher's weights.
    - ``margin=[-0.3, ...]``, one number < 0 for each of the teacher's channels.
    - neither: the mean of the negative values of the channel in the batch, the definition itself.

    mmrazor's ``OFDLoss`` has no margin, so that the student has to match each negative value, and divides by 1000
    itself. Where ``scale`` is not 1, the teacher's map is averaged to the student's size, or repeated where the
    student's is larger, as in mdistiller: the sum is over the student's cells.

    Args:
        stages: See :class:`~dpk_mm.models.loss_parts.stage_loss.StageLoss`; with channels. Published: all stages but
            the stem, each with half the weight of the next deeper one, which is what a stage without ``weight`` has.
        loss_weight: Factor of the loss. Published: 1e-3 (CIFAR), 1e-4 (ImageNet).

    Raises:
        UsageError: (a ValueError) If a stage is malformed, ``teacher_bn`` names no batch normalisation of the teacher,
            or at the forward pass a feature does not fit.

    Source: Heo et al., "A Comprehensive Overhaul of Feature Distillation", margin ReLU and partial L2
    distance, and the authors' code.
    """

    needs_channels = True
    extra_keys = ('teacher_bn', 'margin')

    def __init__(self, stages: Sequence[Mapping[str, Any]], loss_weight: float = 1.0) -> None:
        deepest = len(stages) - 1
        stages = [
            {'weight': 0.5 ** (deepest - place), **stage} if isinstance(stage, Mapping) else stage
            for place, stage in enumerate(stages)
        ]
        super().__init__(stages, loss_weight)
        self.connectors = nn.ModuleDict({s.name: connector(s) for s in self.stages})
        # the teacher's modules, out of nn.Module's sight: no parameter, no child
        object.__setattr__(self, '_norms', {})
        for stage in self.stages:
            self._check_margin(stage)

    @staticmethod
    def _check_margin(stage: FeatureStage) -> None:
        margin = stage.extra.get('margin')
        if margin is None:
            return
        if stage.extra.get('teacher_bn') is not None:
            raise UsageError(
                f'OverhaulLoss: {stage.name} has margin and teacher_bn; leave one of them out.'
            )
        if len(margin) != stage.teacher_channels or not all(value < 0 for value in margin):
            raise UsageError(
                f'OverhaulLoss: margin of {stage.name} must be {stage.teacher_channels} numbers < 0, one for each of '
                f"the teacher's channels, but is {list(margin)!r}."
            )

    def prepare_from_teacher(self, model: nn.Module) -> None:
        """Finds the teacher's batch normalisations that ``teacher_bn`` names; the distiller calls it.

        Raises:
            UsageError: (a ValueError) If a name is unknown or stands for several modules, or the module is not one of
                the stage's channels.
        """
        norms = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
        }
        for stage in self.stages:
            asked = stage.extra.get('teacher_bn')
            if asked is None:
                continue
            found = [n for n in norms if n == asked] or [
                n for n in norms if n.endswith(f'.{asked}')
            ]
            if len(found) != 1:
                there = (
                    f'stands for {", ".join(found)}'
                    if found
                    else 'is none of its batch normalisations'
                )
                hint = did_you_mean(asked, norms) if not found else ''
                raise UsageError(
                    f"OverhaulLoss: teacher_bn of {stage.name} is '{asked}', which {there} in the teacher"
                    f'{hint or "; give its whole name."}'
                )
            norm = norms[found[0]]
            if norm.num_features != stage.teacher_channels or norm.weight is None:
                raise UsageError(
                    f"OverhaulLoss: teacher_bn of {stage.name} is '{asked}', which has {norm.num_features} channels, "
                    f'but the stage has {stage.teacher_channels}; name the one with weight and bias before the ReLU of '
                    'that stage.'
                )
            self._norms[stage.name] = norm

    def margin(self, stage: FeatureStage, teacher: Tensor) -> Tensor:
        """The margin of every channel, ``[C_t]``, < 0, without gradient."""
        given = stage.extra.get('margin')
        if given is not None:
            return teacher.new_tensor(given)
        if stage.extra.get('teacher_bn') is None:
            negative = teacher.clamp(max=0)
            count = (teacher < 0).sum(dim=(0, 2, 3)).clamp_min(1)
            return negative.sum(dim=(0, 2, 3)) / count
        if stage.name not in self._norms:
            raise UsageError(
                f"OverhaulLoss: teacher_bn of {stage.name} is '{stage.extra['teacher_bn']}', but no teacher was given; "
                'use the loss in a DPKDistiller, or call prepare_from_teacher(teacher).'
            )
        norm = self._norms[stage.name]
        margin = margin_of_norm(norm.weight.detach(), norm.bias.detach())
        return margin.to(teacher.device, teacher.dtype)

    def compare(self, stage: FeatureStage, student: Tensor, teacher: Tensor) -> Tensor:
        """The partial squared distance of one stage."""
        student = apply_layers(self.connectors[stage.name], student)
        margin = self.margin(stage, teacher)
        # to more cells it repeats, so that each of the student's counts
        teacher = pool_to(teacher, list(student.shape[2:]))
        check_same_size(student, teacher, stage, 'OverhaulLoss')
        return partial_distance(student, teacher, margin)


def margin_of_norm(weight: Tensor, bias: Tensor) -> Tensor:
    """``E[x | x < 0]`` of a normal distribution with mean ``bias`` and deviation ``|weight|``, by channel.

    Where less than a thousandth of it is below zero, it is ``-3 |weight|``, as in the authors' code.
    """
    mean, deviation = bias.double(), weight.double().abs()
    z = -mean / deviation
    share = torch.special.ndtr(z)
    density = torch.exp(-0.5 * z.square()) / (2 * torch.pi) ** 0.5
    expected = mean - deviation * density / share.clamp_min(1e-300)
    return torch.where(share > 0.001, expected, -3 * deviation)


def partial_distance(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    """``(S - max(T, m))^2`` where ``S > max(T, m)`` or ``T > 0``: sum over cells over N; m is ``[C]``."""
    target = torch.maximum(teacher, margin.view(1, -1, 1, 1))
    counts = ((student > target) | (teacher > 0)).to(student.dtype)
    return (counts * (student - target).square()).sum() / len(student)
