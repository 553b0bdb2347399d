"""The base of all distillation losses."""

from __future__ import annotations

import inspect
import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

WHOLE = ''
"""The name of the only summand of a loss that has one; it is logged under the name of the loss itself."""


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor in float32, or as it is in float64."""
    return x if x.dtype == torch.float64 else x.float()


class DistillLoss(nn.Module):
    """Base of the distillation losses: a method is a subclass that writes :meth:`parts`.

    The names of the arguments of :meth:`parts` say what the loss gets: ``student_<record>`` and ``teacher_<record>``
    are what the distiller's ``records`` name on either side (``student_feats``, ``teacher_logits``, ...), and
    ``data_samples`` the ground truth of the batch. :class:`DPKDistiller` fills them in by these names.

    A subclass keeps to this contract, which ``tests/models/losses/test_contract.py`` checks for every registered one:
    parts are scalars; the gradient reaches the student and the loss's own parameters and never the teacher; no
    parameter is left without a gradient; a NaN in a feature does not become an ordinary number; autocast and a second
    run from the same state give the same value.

    Args:
        loss_weight: Factor of the whole loss, finite and >= 0.

    Raises:
        ValueError: If ``loss_weight`` is not a finite number >= 0.
    """

    compares_classes: ClassVar[bool] = False
    """Whether student and teacher must have the same classes, since logits are compared class by class."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # mmrazor checks ``loss_forward_mappings`` against the signature of ``forward``.
        super().__init_subclass__(**kwargs)
        if 'forward' in vars(cls) and 'parts' not in vars(cls):
            raise TypeError(
                f'{cls.__name__} writes forward(), which DPKDistiller does not call: it takes the losses from parts(); '
                'write parts() in its place.'
            )
        if 'parts' in vars(cls) and 'forward' not in vars(cls):

            def forward(self: DistillLoss, *args: Any, **kwargs: Any) -> Tensor:
                """The sum of :meth:`parts`, a scalar."""
                return torch.stack(list(self.parts(*args, **kwargs).values())).sum()

            forward.__signature__ = inspect.signature(cls.parts)  # type: ignore[attr-defined]
            forward.__qualname__ = f'{cls.__qualname__}.forward'
            cls.forward = forward  # type: ignore[method-assign]

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        number = isinstance(loss_weight, (int, float)) and not isinstance(loss_weight, bool)
        if not (number and math.isfinite(loss_weight) and loss_weight >= 0):
            raise ValueError(
                f'loss_weight of {type(self).__name__} must be a finite number >= 0, but is {loss_weight!r}; use 1.0.'
            )
        self.loss_weight = loss_weight

    def parts(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """The summands of the loss by name, scalars, each with its weight; a single one has the name :data:`WHOLE`."""
        raise NotImplementedError(f'{type(self).__name__} has to define parts().')

    def feature_names(self) -> dict[tuple[str, int], str]:
        """Names that the loss has for features: ``('student' | 'teacher', index in the record)`` -> name.

        Messages about a feature use them, such as "P4" for the third output of a neck.
        """
        return {}
