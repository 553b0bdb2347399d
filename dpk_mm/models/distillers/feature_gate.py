"""Where a loss takes hold of the student: its features, one by one, with a factor for their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .records import DATA_SAMPLES


def student_arguments(mapping: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The arguments of a loss, by whatever name, that are records of the student.

    Args:
        mapping: Its entry in ``loss_forward_mappings``. The ground truth, which the student's recorders have, too, is
            left out.
    """
    return [
        argument
        for argument, record in mapping.items()
        if record['from_student'] and argument != DATA_SAMPLES
    ]


class GatedFeature(NamedTuple):
    """One feature of the student as a loss gets it.

    Attributes:
        recorded: The feature as the student made it, which its own losses also depend on.
        given: The same values as the loss sees them. A gradient on it is that of this loss on this feature alone,
            without the way through other features, and before the factor.
        teacher: The teacher's feature of the same argument and place, detached; None where there is none.
    """

    recorded: Tensor
    given: Tensor
    teacher: Tensor | None


class FeatureGate:
    """Stands between the student's features and one loss.

    Forward it changes nothing. In the backward pass the gradient that the loss sends to a feature is multiplied by the
    factor of that feature: for the student this is a weight of the loss at this place, while the loss's own
    parameters are trained with the weight that they had.

    Args:
        names: ``('student', index)`` -> name of a feature of a tuple, as ``DistillLoss.feature_names`` gives it;
            another one is called ``feats[2]``, and a single one after its record, ``logits``.
        arguments: Which arguments of the loss are the student's, of :func:`student_arguments`. One that is not called
            ``student_<record>``, as ``preds_S`` of mmrazor's losses, has its own name.

    Attributes:
        factors: Name -> factor of the gradient, 1 where there is none.
        seen: Name -> feature of the last forward pass, until :meth:`clear`.
    """

    def __init__(self, names: Mapping[tuple[str, int], str], arguments: Sequence[str]) -> None:
        self.names = dict(names)
        self.arguments = tuple(arguments)
        self.factors: dict[str, float] = {}
        self.seen: dict[str, GatedFeature] = {}

    def __call__(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a loss, with those of the student behind the gate."""
        self.seen = {}
        passed = dict(arguments)
        for key, value in arguments.items():
            if key not in self.arguments:
                continue
            record = key.removeprefix('student_')
            teacher = arguments.get(f'teacher_{record}')
            if isinstance(value, Tensor):
                passed[key] = self._pass(self._name(record, 0, 1) or record, value, teacher)
            elif isinstance(value, (list, tuple)):
                others = teacher if isinstance(teacher, (list, tuple)) else ()
                passed[key] = tuple(
                    self._pass(
                        self._name(record, index, len(value)) or f'{record}[{index}]',
                        feature,
                        others[index] if index < len(others) else None,
                    )
                    for index, feature in enumerate(value)
                )
        return passed

    def _name(self, record: str, index: int, count: int) -> str | None:
        """The loss's own name of a feature, which it has for the record ``feats`` alone."""
        if record != 'feats':
            return None
        return self.names.get(('student', index)) or self.names.get(('student', index - count))

    def clear(self) -> None:
        """Lets go of the features of the last forward pass, and with them of their graph."""
        self.seen = {}

    def _pass(self, name: str, feature: Any, teacher: Any) -> Any:
        if not isinstance(feature, Tensor) or not feature.requires_grad:
            return feature
        given = _Scaled.apply(feature, lambda: self.factors.get(name, 1.0))
        other = teacher.detach() if isinstance(teacher, Tensor) else None
        self.seen[name] = GatedFeature(feature, given, other)
        return given


class _Scaled(torch.autograd.Function):
    """The identity, whose gradient has a factor that is read in the backward pass."""

    @staticmethod
    def forward(ctx: Any, feature: Tensor, factor: Callable[[], float]) -> Tensor:
        ctx.factor = factor
        return feature.view_as(feature)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        factor = ctx.factor()
        return (grad if factor == 1.0 else grad * factor), None
