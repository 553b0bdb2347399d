"""TOFD: features after convolutions that the task itself has trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn
from torch.linalg import vector_norm

from ...errors import UsageError
from ...modules.hybrid_transform import check_choice
from ..loss_parts.feature_stage import SIDES
from ..loss_parts.logits import labels_of
from ..loss_parts.regressor import apply_layers
from ..loss_parts.stage_loss import StageLoss


class AuxiliaryBranch(nn.Module):
    """A stage's map as a vector as wide as the deepest stage's, and a classifier on it.

    Args:
        channels: Of this stage and of each deeper one; each step down is a depthwise-separable convolution of stride 2.
        num_classes: Classes; None for a branch without classifier, that of the deepest stage.
    """

    def __init__(self, channels: Sequence[int], num_classes: int | None) -> None:
        super().__init__()
        steps = zip(channels[:-1], channels[1:], strict=True)
        self.convs = nn.Sequential(*(_separable(own, deeper) for own, deeper in steps))
        self.classify = None if num_classes is None else nn.Linear(channels[-1], num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The vector ``[N, C]`` and the logits ``[N, classes]``."""
        vector = apply_layers(self.convs, x).mean(dim=(2, 3))
        return vector, None if self.classify is None else apply_layers(self.classify, vector)


def _separable(channels: int, out: int) -> nn.Sequential:
    """A depthwise 3x3 convolution of stride 2, another of stride 1, each with a 1x1 convolution after it."""
    layers: list[nn.Module] = []
    for stride, width in ((2, channels), (1, out)):
        layers += [
            nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


@MODELS.register_module()
class TOFDLoss(StageLoss):
    """TOFD: the teacher's features and the student's, each after an auxiliary branch that learns the task.

    A branch is depthwise-separable convolutions down to the deepest stage's resolution, a mean over cells, and a linear
    classifier; the deepest stage has neither, since the network's own head is its classifier. The parts, each summed
    over the stages:

    - ``feature``: ``alpha |R(s) - t|`` of the two vectors, R a linear layer without bias.
    - ``task``: cross entropy of the student's branches.
    - ``logits``: the divergence of the student's branches from the teacher's, softened by ``tau``; without the factor
      ``tau^2`` of KD, as in the authors' code.
    - ``orthogonal``: ``beta (|R R^T - I| + |R^T R - I|)`` (Frobenius norms).
    - ``teacher``: cross entropy of the teacher's branches, which reaches them alone.

    In the paper the teacher was trained with its branches. Published teachers have none, so here they are trained along
    with the student, on the teacher's fixed features. The student's own head keeps its loss, and KD on it is a loss of
    its own, ``KDLoss``.

    Args:
        stages: See :class:`~dpk_mm.models.loss_parts.stage_loss.StageLoss`; with channels, shallow first, each of half
            the side of the one before. ``weight`` is a factor of ``feature``.
        num_classes: Classes of the labels.
        alpha: Factor of ``feature``, >= 0. Published: 0.05.
        beta: Factor of ``orthogonal``, >= 0. Published: 0.03.
        tau: Temperature, > 0. The authors' code raises it from 1 to 4 over the training.
        mode: ``'code'``: ``feature`` is the L2 norm of the whole batch's difference. ``'paper'``: the squared one,
            averaged over the images.
        loss_weight: Factor of the loss. Published: 1.

    Raises:
        UsageError: (a ValueError) If a stage is malformed, or at the forward pass a feature or a label does not fit.
        ValueError: If another argument is out of its range.

    Source: Zhang et al., "Task-Oriented Feature Distillation", L_distill, L_task, L_logit and L_orth, and the authors'
    code.
    """

    needs_channels = True

    def __init__(
        self,
        stages: Sequence[Mapping[str, Any]],
        num_classes: int,
        alpha: float = 0.05,
        beta: float = 0.03,
        tau: float = 3.0,
        mode: str = 'code',
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(stages, loss_weight)
        check_choice('mode of TOFDLoss', mode, ('code', 'paper'))
        if len(self.stages) < 2:
            raise ValueError(
                'stages of TOFDLoss must be two or more, since the deepest has no branch; add a shallower one.'
            )
        if not isinstance(num_classes, int) or num_classes < 2:
            raise ValueError(
                f'num_classes of TOFDLoss must be an integer > 1, but is {num_classes!r}.'
            )
        if not (0 <= alpha < float('inf') and 0 <= beta < float('inf') and 0 < tau < float('inf')):
            raise ValueError(
                f'TOFDLoss needs alpha and beta >= 0 and tau > 0, but they are {alpha}, {beta} and {tau}; use 0.05, '
                '0.03 and 3.0.'
            )
        self.alpha, self.beta, self.tau, self.mode = alpha, beta, tau, mode
        self.num_classes = num_classes
        channels = {
            side: [int(getattr(stage, f'{side}_channels')) for stage in self.stages]
            for side in SIDES
        }
        deepest = len(self.stages) - 1
        self.branches = nn.ModuleDict(
            {
                side: nn.ModuleDict(
                    {
                        stage.name: AuxiliaryBranch(
                            channels[side][place:], None if place == deepest else num_classes
                        )
                        for place, stage in enumerate(self.stages)
                    }
                )
                for side in SIDES
            }
        )
        self.resize = nn.ModuleDict(
            {
                stage.name: nn.Linear(channels['student'][-1], channels['teacher'][-1], bias=False)
                for stage in self.stages
            }
        )

    def parts(
        self,
        student_feats: Sequence[Tensor],
        teacher_feats: Sequence[Tensor],
        data_samples: Sequence[Any],
    ) -> dict[str, Tensor]:
        """The five parts.

        Args:
            student_feats: ``[N, C_s, H, W]`` each, as recorded.
            teacher_feats: ``[N, C_t, H, W]`` each; no gradient flows into them.
            data_samples: N samples with ``gt_label``.
        """
        pairs = self.pick(student_feats, teacher_feats)
        labels = self._labels(data_samples, pairs[0][0])
        zero = pairs[0][0].new_zeros(())
        names = ('feature', 'task', 'logits', 'orthogonal', 'teacher')
        total = dict.fromkeys(names, zero)
        with torch.autocast(labels.device.type, enabled=False):
            for stage, (student, teacher) in zip(self.stages, pairs, strict=True):
                own, own_logits = self.branches['student'][stage.name](student)
                given, given_logits = self.branches['teacher'][stage.name](teacher)
                resize = self.resize[stage.name]
                gap = apply_layers(resize, own) - given.detach()
                distance = (
                    vector_norm(gap) if self.mode == 'code' else gap.square().sum(dim=1).mean()
                )
                total['feature'] = total['feature'] + self.alpha * stage.weight * distance
                total['orthogonal'] = total['orthogonal'] + self.beta * _orthogonality(
                    resize.weight.to(own.dtype)
                )
                if own_logits is not None and given_logits is not None:
                    total['task'] = total['task'] + F.cross_entropy(own_logits, labels)
                    total['teacher'] = total['teacher'] + F.cross_entropy(given_logits, labels)
                    total['logits'] = total['logits'] + self._divergence(
                        own_logits, given_logits.detach()
                    )
        return {name: self.loss_weight * value for name, value in total.items()}

    def _divergence(self, own: Tensor, given: Tensor) -> Tensor:
        """The divergence of the softened distributions, mean over images."""
        own, given = (F.log_softmax(x / self.tau, dim=1) for x in (own, given))
        return F.kl_div(own, given, reduction='batchmean', log_target=True)

    def _labels(self, data_samples: Sequence[Any], feature: Tensor) -> Tensor:
        labels = labels_of(data_samples, feature, 'TOFDLoss')
        if bool((labels >= self.num_classes).any()):
            raise UsageError(
                f'num_classes of TOFDLoss is {self.num_classes}, but a label is {int(labels.max())}; set it to the '
                'classes of the data.'
            )
        return labels


def _orthogonality(weight: Tensor) -> Tensor:
    """``|W W^T - I| + |W^T W - I|``, Frobenius norms."""
    return sum(
        vector_norm(x @ x.T - torch.eye(len(x), dtype=x.dtype, device=x.device))
        for x in (weight, weight.T)
    )
