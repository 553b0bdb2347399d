"""MGD: the teacher's feature from a masked feature of the student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ..loss_parts.level import Level
from ..loss_parts.level_loss import LevelLoss
from ..loss_parts.regressor import apply_layers

MASKED = ('positions', 'channels')


@MODELS.register_module()
class LevelMGDLoss(LevelLoss):
    """MGD: squared difference of the teacher's feature and one generated from the masked student's.

    For every level, with a random mask M, a 1x1 convolution f_align where the channels differ, and G a 3x3 convolution,
    a ReLU and another 3x3 convolution::

        loss = sum((T - G(f_align(S) * M))^2) / N

    G and f_align are trained with the student and dropped after. The mask is of torch's random numbers on the device of
    the features. The difference is a sum: the weight goes with the size of images and features.

    mmrazor has the same in two pieces, ``MGDConnector`` and ``MGDLoss`` (whose name is taken by it), for one level. The
    values are the same for the same mask; mmrazor makes the mask on the host, a copy in every step, and does not cut
    the teacher's gradient. Its config of the method clips no gradient: ``optimizer_config`` is a key of mmengine's
    predecessor, and the authors clip at 35 (our pairs do: ``optim_wrapper.clip_grad``).

    Args:
        levels: As of :class:`~dpk_mm.models.loss_parts.level_loss.LevelLoss`.
        student_channels: Channels of the student's features, where a level does not say its own.
        teacher_channels: Channels of the teacher's features.
        mask_ratio: lambda, the share that is masked, in [0, 1). 0 is the generator alone.
        masked: ``'positions'``, as for detectors, or ``'channels'``, as in the authors' code for classifiers.
        loss_weight: alpha. Published with ``mask_ratio``: 2e-5 and 0.65 for one-stage detectors, 5e-7 and 0.45 for
            two-stage ones.
        by_level: Whether :meth:`parts` gives one number for each level.

    Raises:
        ValueError: If an argument is out of its range.

    Source: Yang et al. 2022, "Masked Generative Distillation", Eq. 2 to 5, whose sum is of one image; the authors'
    code divides by N.
    """

    def __init__(
        self,
        levels: Sequence[int | Mapping[str, Any]] = (0, 1, 2, 3),
        student_channels: int = 256,
        teacher_channels: int = 256,
        mask_ratio: float = 0.65,
        masked: str = 'positions',
        loss_weight: float = 2e-5,
        by_level: bool = False,
    ) -> None:
        super().__init__(levels, student_channels, teacher_channels, loss_weight, by_level)
        if not 0 <= mask_ratio < 1:
            raise ValueError(
                f'mask_ratio of LevelMGDLoss must be in [0, 1), but is {mask_ratio}; use 0.65.'
            )
        if masked not in MASKED:
            raise ValueError(
                f"masked of LevelMGDLoss must be 'positions' or 'channels', but is {masked!r}."
            )
        # not `mask_ratio`: DPK's hook of that name governs losses that have it
        self.fixed_ratio = mask_ratio
        self.masked = masked
        self.generation = nn.ModuleDict(
            {str(level.student): _generator(level.teacher_channels) for level in self.levels}
        )

    def term(self, level: Level, student: Tensor, teacher: Tensor) -> Tensor:
        """The squared difference, summed, divided by N."""
        n, channels, height, width = student.shape
        shape = (n, 1, height, width) if self.masked == 'positions' else (n, channels, 1, 1)
        kept = torch.rand(shape, device=student.device) <= 1 - self.fixed_ratio
        # multiplied, so that a NaN in a masked cell stays one
        generated = apply_layers(self.generation[str(level.student)], student * kept)
        return (generated - teacher).square().sum() / n


def _generator(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=1),
    )
