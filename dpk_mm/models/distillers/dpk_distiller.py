"""mmrazor's configurable distiller, with named parts of losses and without leftovers."""

from __future__ import annotations

from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class DPKDistiller(ConfigurableDistiller):
    """``ConfigurableDistiller`` for losses that take whole tuples of features.

    What differs from mmrazor's: a loss that offers ``parts()`` is logged part by part (``loss_dpk.foreground``), and
    the recorders let go of their features as soon as the losses are computed, so that no graph outlives its
    iteration. Recorders, connectors, deliveries and ``loss_forward_mappings`` are mmrazor's.

    Raises:
        ValueError: If a loss has no entry in ``loss_forward_mappings``: mmrazor would never compute it.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        idle = sorted(set(self.distill_losses) - set(self.loss_forward_mappings))
        if idle:
            raise ValueError(
                f'DPKDistiller: distill_losses.{idle[0]} has no entry in loss_forward_mappings '
                f'({", ".join(self.loss_forward_mappings) or "empty"}) and would never be computed; '
                'map its arguments to recorders.'
            )

    def compute_distill_losses(self) -> dict[str, Tensor]:
        """All distillation losses of the recorded features.

        Returns:
            dict[str, Tensor]: Scalars, ``<loss>`` or ``<loss>.<part>``.
        """
        losses = {}
        for name, mapping in self.loss_forward_mappings.items():
            arguments = {key: self.get_record(**record) for key, record in mapping.items()}
            loss = self.distill_losses[name]
            if hasattr(loss, 'parts'):
                losses.update({f'{name}.{k}': v for k, v in loss.parts(**arguments).items()})
            else:
                losses[name] = loss(**arguments)
        self.clear_records()
        return losses

    def clear_records(self) -> None:
        """Drops every recorded feature."""
        for manager in (self.student_recorders, self.teacher_recorders):
            for recorder in manager.recorders.values():
                recorder.reset_data_buffer()
