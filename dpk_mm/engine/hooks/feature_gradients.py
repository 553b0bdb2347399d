"""Gradients of a distillation loss on the student's features, beside those of the student's own losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.errors import UsageError, first_few

from ...functional.feature_error import error_and_variance
from ...models.distillers import DPKDistiller
from ...models.distillers.feature_gate import GatedFeature, student_arguments
from .loss_sums import total

#: The losses of the student itself, as mmrazor prefixes them; they count as one.
STUDENT = 'student'
_DISTILL = 'distill'


class FeatureGradient(NamedTuple):
    """Inner products of two gradients on one feature, float32 scalars.

    Attributes:
        task: Squared norm of the gradient of the student's own losses.
        distill: Squared norm of that of the distillation loss.
        product: Their inner product.
        reached: 1 if the distillation loss depends on the feature at all, be its gradient zero; else 0.
    """

    task: Tensor
    distill: Tensor
    product: Tensor
    reached: Tensor

    def share(self) -> float:
        """Norm of the distillation's gradient over that of the student's own; 0 where the latter is 0."""
        return (self.distill / self.task).sqrt().item() if self.task > 0 else 0.0

    def cosine(self) -> float:
        """Of the two, in [-1, 1]; 0 where one of them is 0."""
        both = (self.task * self.distill).sqrt()
        return (self.product / both).clamp(-1, 1).item() if both > 0 else 0.0


def feature_gradients(
    losses: Mapping[str, Tensor | Sequence[Tensor]],
    name: str,
    seen: Mapping[str, GatedFeature],
    scale: float = 1.0,
) -> dict[str, FeatureGradient]:
    """Measures the gradients on each feature of a loss; the graph of the losses is left as it was.

    Args:
        losses: Of a forward pass, ``student.*`` and ``distill.*``, as mmengine takes them.
        name: The distillation loss.
        seen: Its features by name, as its gate has them.
        scale: Factor of the losses in the backward passes, taken out of the result; see
            :func:`~dpk_mm.engine.hooks.measuring.loss_scale`.

    Returns:
        By name of the feature. The distillation's gradient is that of the loss with its own weight, before the
        factor of the gate.
    """
    own = [total(losses, STUDENT), total(losses, f'{_DISTILL}.{name}')]
    gradients = [
        _gradients(own[0], [feature.recorded for feature in seen.values()], scale),
        _gradients(own[1], [feature.given for feature in seen.values()], scale),
    ]
    found = {}
    for (key, feature), task, distill in zip(seen.items(), *gradients, strict=True):
        zero = torch.zeros((), device=feature.given.device)
        reached = zero + (distill is not None)
        task, distill = (zero if g is None else g for g in (task, distill))
        products = task.square().sum(), distill.square().sum(), (task * distill).sum()
        found[key] = FeatureGradient(*products, reached)
    return found


def averaged_over_ranks(found: Mapping[str, FeatureGradient]) -> dict[str, FeatureGradient]:
    """The same numbers on every rank: the mean of each; every rank has to call it with the same names."""
    if not found:
        return {}
    table = torch.stack([torch.stack(gradient) for gradient in found.values()])
    all_reduce(table, op='mean')
    return {name: FeatureGradient(*row) for name, row in zip(found, table, strict=True)}


def feature_distance(feature: GatedFeature) -> float | None:
    """The squared error of the student's feature itself as a share of the teacher's variance.

    None where the two shapes differ, or the teacher's feature is constant.
    """
    if feature.teacher is None:
        return None
    return error_share(feature.given, feature.teacher)


def error_share(feature: Tensor, teacher: Tensor) -> float | None:
    """The squared error of a feature as a share of the teacher's variance; None as in :func:`feature_distance`."""
    if feature.shape != teacher.shape or feature.ndim < 2:
        return None
    error, variance = error_and_variance(feature, teacher)
    return (error / variance).item() if variance > 0 else None


def distiller_of(runner: Any, user: str) -> DPKDistiller:
    """The distiller of the model that is trained.

    Raises:
        UsageError: If the model has none of ours.
    """
    distiller = getattr(unwrap(runner.model), 'distiller', None)
    if not isinstance(distiller, DPKDistiller):
        raise UsageError(
            f'{user} looks at the features of a DPKDistiller, but the model has '
            f'{type(distiller).__name__ if distiller is not None else "no distiller"}; set model.distiller.type='
            "'DPKDistiller', or take the option out."
        )
    return distiller


def losses_on_features(distiller: DPKDistiller) -> list[str]:
    """Names of the losses that look at the student."""
    return [
        name
        for name, mapping in distiller.loss_forward_mappings.items()
        if student_arguments(mapping)
    ]


def check_no_connector(distiller: DPKDistiller, name: str, user: str) -> None:
    """Raises UsageError if a loss gets a feature of the student through a connector of the distiller.

    The loss's gradient is measured on what the loss is given, and there the student's own losses have none.
    """
    mapping = distiller.loss_forward_mappings[name]
    for argument in student_arguments(mapping):
        connector = mapping[argument].get('connector')
        if connector:
            raise UsageError(
                f"{user} compares gradients on the student's own features, but distill_losses.{name} gets {argument} "
                f"through the connector {connector!r}, on whose output the student's own losses do not depend; take "
                f'the connector or {user} out.'
            )


def check_names(given: Mapping[str, Any], known: Sequence[str], user: str, argument: str) -> None:
    """Raises UsageError if a dict by feature names one that is not there."""
    for name in given:
        if name not in known:
            raise UsageError(
                f'{user}: {argument} names the feature {name!r}, but those of this loss are {first_few(known, 8)}.'
            )


def _gradients(
    loss: Tensor | None, features: Sequence[Tensor], scale: float
) -> list[Tensor | None]:
    if loss is None or not loss.requires_grad or not features:
        return [None] * len(features)
    found = torch.autograd.grad(scale * loss, features, retain_graph=True, allow_unused=True)
    return [None if g is None else g.float() / scale for g in found]
