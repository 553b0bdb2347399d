"""AGNL: attention-guided and non-local distillation of a feature pyramid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...errors import UsageError, did_you_mean
from ..loss_parts.level import Level
from ..loss_parts.level_loss import LevelLoss
from ..loss_parts.non_local import NonLocal
from ..loss_parts.regressor import apply_layers, check_batch_norm

AGNL_WEIGHTS: dict[str, dict[str, float]] = {
    # the authors' code; mmrazor's defaults are the first
    'agnl_two_stage': dict(feature=7e-5, attention=4e-3, relation=7e-5),
    'agnl_one_stage': dict(feature=6 * 7e-5, attention=6 * 4e-3, relation=6 * 7e-5),
}
"""Weights of AGNL by name."""


class _Level(nn.Module):
    """What one level trains along: the adaptations of the student's side, and a non-local block for each side."""

    def __init__(self, level: Level, width: int, pool: int) -> None:
        super().__init__()
        own, given = level.student_channels, level.teacher_channels
        self.feature = nn.Conv2d(own, given, 1)
        self.channel = nn.Linear(own, given)
        self.spatial = nn.Conv2d(1, 1, 3, padding=1)
        self.relation = nn.Conv2d(own, given, 1)
        self.student = NonLocal(own, max(1, own // width), pool)
        self.teacher = NonLocal(given, max(1, given // width), pool)


@MODELS.register_module()
class AGNLLoss(LevelLoss):
    """AGNL (in mmrazor FBKD): differences weighted by attention, pooled features, and relations of positions.

    With S and T the features of a level, f, l, k and r layers that are trained along (1x1 convolution, linear layer,
    3x3 convolution, 1x1 convolution) and R_S and R_T non-local blocks (:class:`.NonLocal`), trained along, too::

        A(X)     = H W softmax over positions of (mean over channels of |X| / tau)
        feature  = sqrt(sum((T - f(S))^2 (A(S) + A(T)) / 2))
        channel  = |mean over positions of T - l(mean over positions of S)|
        spatial  = |mean over channels of T - k(mean over channels of S)|
        relation = |R_T(T) - r(R_S(S))|

    All norms are L2 norms over the whole batch, and no gradient goes through A. ``mode='paper'`` multiplies the
    squares in *feature* by the attention of the channels, too, C softmax over channels of (mean over positions of |X| /
    tau), where S is f(S); the authors' code computes it and leaves it out (``'code'``).

    mmrazor has this in three pieces for each level, ``FBKDStudentConnector``, ``FBKDTeacherConnector`` and
    ``FBKDLoss``, with the same values, except that its blocks pool twice, by 2 and then by ``maxpool_stride``. There, a
    teacher of other channels does not fit, the gradient is NaN where the features are equal, and a map smaller than
    the pooling stops it. R_T is trained with the rest, here as there: it may become what r(R_S(S)) can reach.

    Args:
        levels: As of :class:`~dpk_mm.models.loss_parts.level_loss.LevelLoss`.
        student_channels: Channels of the student's features, where a level does not say its own.
        teacher_channels: Channels of the teacher's features.
        weights: Name in ``AGNL_WEIGHTS``, or ``dict(feature=..., attention=..., relation=...)``; attention is that of
            *channel* and *spatial*.
        tau: Temperature of the attention, > 0; 0.5 in mmrazor.
        mode: ``'code'`` or ``'paper'``.
        pools: Sides of the pooling in the non-local blocks, one for each level, else the last one given.
        reductions: Likewise channels of a level over those inside its non-local blocks.
        loss_weight: Factor of the whole loss.

    Raises:
        UsageError: (a ValueError) If ``weights`` is no name, or in training a level has one cell of one image.
        ValueError: If an argument is out of its range.

    Source: Zhang and Ma 2021, "Improve Object Detection with Feature-based Knowledge Distillation: Towards Accurate and
    Efficient Detectors", attention-guided and non-local distillation; weights, pools and reductions of its code.
    """

    def __init__(
        self,
        levels: Sequence[int | Mapping[str, Any]] = (0, 1, 2, 3),
        student_channels: int = 256,
        teacher_channels: int = 256,
        weights: str | Mapping[str, float] = 'agnl_two_stage',
        tau: float = 0.5,
        mode: str = 'code',
        pools: Sequence[int] = (8, 4, 2),
        reductions: Sequence[int] = (4, 4, 2),
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(levels, student_channels, teacher_channels, loss_weight)
        self.weights = _read_weights(weights)
        if not 0 < tau < float('inf'):
            raise ValueError(f'tau of AGNLLoss must be a finite number > 0, but is {tau}.')
        if mode not in ('code', 'paper'):
            raise ValueError(f"mode of AGNLLoss must be 'code' or 'paper', but is {mode!r}.")
        for name, values in (('pools', pools), ('reductions', reductions)):
            if not values or min(values) < 1:
                raise ValueError(
                    f'{name} of AGNLLoss must be whole numbers >= 1, but is {values!r}.'
                )
        self.tau = tau
        self.mode = mode
        # counted among all that are configured: a weight of 0 must not move those of the others
        places = {_student_index(entry): place for place, entry in enumerate(levels)}
        self.trained = nn.ModuleDict()
        for level in self.levels:
            place = places[level.student]
            self.trained[str(level.student)] = _Level(
                level, _at(reductions, place), _at(pools, place)
            )

    def make_align(self, level: Level) -> None:
        """None: each term has a layer of its own."""

    def parts(
        self, student_feats: Sequence[Tensor], teacher_feats: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """The four terms, each a sum over levels.

        Args:
            student_feats: ``[N, C_s, H, W]`` each, as recorded.
            teacher_feats: ``[N, C_t, H, W]`` each.

        Returns:
            float32 scalars ``feature``, ``channel``, ``spatial`` and ``relation``.

        Raises:
            ValueError: If a level is not there, or its channels, its size or its batch are not as expected.
        """
        zero = teacher_feats[0].new_zeros((), dtype=torch.float32)
        sums = dict.fromkeys(('feature', 'channel', 'spatial', 'relation'), zero)
        if self.levels:
            with torch.autocast(teacher_feats[0].device.type, enabled=False):
                for level, student, teacher in self.pairs(student_feats, teacher_feats):
                    for name, value in self._terms(level, student, teacher).items():
                        sums[name] = sums[name] + level.weight * value
        factors = dict(
            feature=self.weights['feature'],
            channel=self.weights['attention'],
            spatial=self.weights['attention'],
            relation=self.weights['relation'],
        )
        return {name: self.loss_weight * factors[name] * value for name, value in sums.items()}

    def _terms(self, level: Level, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        trained = self.trained[str(level.student)]
        check_batch_norm(trained, teacher.numel() // teacher.shape[1], 'AGNLLoss')
        student = student.to(trained.channel.weight.dtype)
        adapted = trained.feature(student)
        with torch.no_grad():
            attention = (self._positions(student) + self._positions(teacher)) / 2
            if self.mode == 'paper':
                channels = (self._channels(adapted) + self._channels(teacher)) / 2
                attention = attention * channels
        pooled = student.mean(dim=1, keepdim=True)
        related = trained.relation(trained.student(student))
        return dict(
            feature=_norm((teacher - adapted) * attention.sqrt()),
            channel=_norm(teacher.mean(dim=(2, 3)) - trained.channel(student.mean(dim=(2, 3)))),
            spatial=_norm(teacher.mean(dim=1, keepdim=True) - trained.spatial(pooled)),
            relation=_norm(apply_layers(trained.teacher, teacher) - related),
        )

    def _positions(self, feature: Tensor) -> Tensor:
        """Attention of the positions, ``[N, 1, H, W]``, of mean 1."""
        mean = feature.abs().mean(dim=1, keepdim=True)
        shares = torch.softmax(mean.flatten(1) / self.tau, dim=1)
        return shares.view(mean.shape) * shares.shape[1]

    def _channels(self, feature: Tensor) -> Tensor:
        """Attention of the channels, ``[N, C, 1, 1]``, of mean 1."""
        mean = feature.abs().mean(dim=(2, 3), keepdim=True)
        return torch.softmax(mean / self.tau, dim=1) * feature.shape[1]


def _read_weights(weights: str | Mapping[str, float]) -> dict[str, float]:
    if isinstance(weights, str):
        if weights not in AGNL_WEIGHTS:
            raise UsageError(
                f'weights of AGNLLoss is {weights!r}, but the names are {", ".join(AGNL_WEIGHTS)}; give one of them, '
                f'or the three weights{did_you_mean(weights, AGNL_WEIGHTS) or "."}'
            )
        return dict(AGNL_WEIGHTS[weights])
    found = dict(weights)
    known = ('feature', 'attention', 'relation')
    if set(found) != set(known) or not all(0 <= w < float('inf') for w in found.values()):
        raise ValueError(
            f'weights of AGNLLoss must be finite numbers >= 0 of {", ".join(known)}, but is {dict(weights)!r}.'
        )
    return found


def _student_index(entry: int | Mapping[str, Any]) -> Any:
    """The index on the student's side, as :func:`.parse_levels` reads it."""
    return entry.get('student_index', entry.get('index')) if isinstance(entry, Mapping) else entry


def _at(values: Sequence[int], place: int) -> int:
    return values[min(place, len(values) - 1)]


def _norm(difference: Tensor) -> Tensor:
    """L2 norm, whose gradient is 0 and not NaN where it is 0."""
    return torch.linalg.vector_norm(difference)
