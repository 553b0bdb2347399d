"""What is measured on each feature that a distillation loss is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from ...models.distillers import DPKDistiller
from ...models.losses import DPKLoss
from .feature_gradients import (
    check_no_connector,
    error_share,
    feature_distance,
    feature_gradients,
    losses_on_features,
)
from .loss_names import monitor_name


class LevelProbe:
    """Measures, for each distillation loss and each feature of the student that it gets:

    - ``gradient_share/distill.<loss>.<feature>``: norm of the gradient of the loss on this feature over that of the
      student's own losses. The factor of a ``GradientShareHook`` is in it.
    - ``gradient_cosine/distill.<loss>.<feature>``: the cosine of the two.
    - ``feature_distance/<feature>``: squared error of the student's feature itself as a share of the teacher's
      variance, where both have one shape.
    - ``hybrid_error/<stage>``: the same of what the modules of a ``DPKLoss`` make of it. Where a map is cut into
      windows by ``max_tokens``, the zeros with which the last ones are filled up count like cells of the map.

    A feature is called by the loss's name for it (``P4``), else by its record (``feats[2]``); an argument that is not
    called ``student_...`` by its own name (``s_feature``), without a distance, since its teacher is not known.

    Args:
        distiller: Whose losses are looked at.

    Raises:
        UsageError: (a ValueError) If a loss gets a feature of the student through a connector.
    """

    def __init__(self, distiller: DPKDistiller) -> None:
        names = losses_on_features(distiller)
        for name in names:
            check_no_connector(distiller, name, 'LossGradientHook by_level')
        self._gates = {name: distiller.gate(name) for name in names}
        self._listening = False
        self._errors: dict[str, float] = {}
        self._handles = [
            transform.register_forward_hook(partial(self._keep_error, stage))
            for loss in distiller.distill_losses.values()
            if isinstance(loss, DPKLoss)
            for stage, transform in loss.transforms.items()
        ]

    def listen(self, measured: bool) -> None:
        """Says whether the iteration that begins is measured."""
        self._listening = measured
        self._errors = {}

    def measure(
        self, losses: Mapping[str, Tensor | Sequence[Tensor]], scale: float = 1.0
    ) -> dict[str, float]:
        """The numbers of a forward pass by name; the graph is left as it was.

        Args:
            losses: As of :func:`~dpk_mm.engine.hooks.feature_gradients.feature_gradients`.
            scale: Likewise.
        """
        found: dict[str, float] = {}
        for name, gate in self._gates.items():
            short = monitor_name(f'distill.{name}')
            gradients = feature_gradients(losses, name, gate.seen, scale)
            for feature, gradient in gradients.items():
                factor = gate.factors.get(feature, 1.0)
                found[f'gradient_share/{short}.{feature}'] = factor * gradient.share()
                found[f'gradient_cosine/{short}.{feature}'] = gradient.cosine()
                distance = feature_distance(gate.seen[feature])
                if distance is not None:
                    found[f'feature_distance/{feature}'] = distance
        found.update({f'hybrid_error/{stage}': error for stage, error in self._errors.items()})
        return found

    def clear(self) -> None:
        """Lets go of the features."""
        for gate in self._gates.values():
            gate.clear()

    def remove(self) -> None:
        """Leaves the model as it was."""
        for handle in self._handles:
            handle.remove()

    def _keep_error(
        self, stage: str, module: nn.Module, inputs: Sequence[Any], output: Tensor
    ) -> None:
        if self._listening:
            error = error_share(output, inputs[1])
            if error is not None:
                self._errors[stage] = error
