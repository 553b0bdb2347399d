"""mmrazor's configurable distiller, with named parts of losses and without leftovers."""

from __future__ import annotations

from typing import Any

from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.registry import MODELS
from torch import Tensor

from .class_counts import check_logits


@MODELS.register_module()
class DPKDistiller(ConfigurableDistiller):
    """``ConfigurableDistiller`` for losses that take whole tuples of features.

    What differs from mmrazor's: a loss that offers ``parts()`` is logged part by part (``loss_dpk.foreground``), and
    the recorders let go of their features as soon as the losses are computed, so that no graph outlives its
    iteration; :meth:`pop_seen` gives a last look. Recorders, connectors, deliveries and ``loss_forward_mappings`` are
    mmrazor's.

    Raises:
        ValueError: If a loss has no entry in ``loss_forward_mappings``: mmrazor would never compute it.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        idle = sorted(set(self.distill_losses) - set(self.loss_forward_mappings))
        if idle:
            raise ValueError(
                f'DPKDistiller: distill_losses.{idle[0]} has no entry in loss_forward_mappings '
                f'({", ".join(self.loss_forward_mappings) or "empty"}) and would never be computed; '
                'map its arguments to recorders.'
            )
        self._seen: dict[str, Tensor] = {}

    def compute_distill_losses(self) -> dict[str, Tensor]:
        """All distillation losses of the recorded features.

        Returns:
            dict[str, Tensor]: Scalars, ``<loss>`` or ``<loss>.<part>``.

        Raises:
            UsageError: If logits with different numbers of classes are compared.
        """
        losses = {}
        for name, mapping in self.loss_forward_mappings.items():
            arguments = {key: self.get_record(**record) for key, record in mapping.items()}
            loss = self.distill_losses[name]
            sides = [
                [arguments[key] for key, record in mapping.items() if record['from_student'] is own]
                for own in (True, False)
            ]
            check_logits(name, loss, *sides)
            if hasattr(loss, 'parts'):
                losses.update({f'{name}.{k}': v for k, v in loss.parts(**arguments).items()})
            else:
                losses[name] = loss(**arguments)
        self._seen = self._recorded()
        self.clear_records()
        return losses

    def pop_seen(self) -> dict[str, Tensor]:
        """The features of the last losses, detached, the teacher's first; they are given once.

        Returns:
            dict[str, Tensor]: By a name for the user, such as 'teacher feature neck[2] (P4)'.
        """
        seen, self._seen = self._seen, {}
        return seen

    def _recorded(self) -> dict[str, Tensor]:
        stages = self._stages()
        found: list[tuple[str, Tensor]] = []
        for side in ('teacher', 'student'):
            features = []
            for name, recorder in getattr(self, f'{side}_recorders').recorders.items():
                for record in recorder.data_buffer:
                    items = record if isinstance(record, (list, tuple)) else [record]
                    for index, value in enumerate(items):
                        if isinstance(value, Tensor):
                            place = f'[{index}]' if items is record else ''
                            key, last = (side, name, index), (side, name, index - len(items))
                            stage = stages.get(key, stages.get(last))
                            label = f' ({stage})' if stage else ''
                            features.append(
                                (f'{side} feature {name}{place}{label}', value.detach())
                            )
            # maps come before the logits in a network, whatever the order of the recorders
            found += sorted(features, key=lambda item: -item[1].ndim)
        return dict(found)

    def _stages(self) -> dict[tuple[str, str, int], str]:
        """(side, recorder, index) -> the name that a loss such as DPKLoss has for this feature."""
        stages = {}
        for name, mapping in self.loss_forward_mappings.items():
            for key, record in mapping.items():
                side = 'student' if record['from_student'] else 'teacher'
                for stage, part in getattr(self.distill_losses[name], 'stages', {}).items():
                    if key == f'{side}_feats':
                        stages[side, record['recorder'], part.index[side]] = stage
        return stages

    def clear_records(self) -> None:
        """Drops every recorded feature."""
        for manager in (self.student_recorders, self.teacher_recorders):
            for recorder in manager.recorders.values():
                recorder.reset_data_buffer()
