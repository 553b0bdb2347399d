"""mmrazor's configurable distiller, told by the names of records what each loss gets."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.models.task_modules.recorder import RecorderManager
from mmrazor.registry import MODELS
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ...errors import UsageError, did_you_mean, first_few
from ..loss_parts.distill_loss import WHOLE, DistillLoss
from ..recorders import attach_again
from .class_counts import check_logits
from .empty_record import PartsThatRan, why_empty
from .feature_gate import FeatureGate, student_arguments
from .records import DATA_SAMPLES, SIDES, arguments_of, expand_records, fill_mapping
from .trained_modules import load_modules


@MODELS.register_module()
class DPKDistiller(ConfigurableDistiller):
    """``ConfigurableDistiller`` for losses that take whole tuples of features, and for short configs.

    What differs from mmrazor's:

    - ``records`` says what is looked at, once for both sides, and a loss gets it by the names of its arguments:
      ``records=dict(feats='neck', logits='head.fc')`` fills ``student_feats``, ``teacher_feats``,
      ``student_logits`` and ``teacher_logits``; ``data_samples`` is the ground truth. mmrazor's
      ``student_recorders``, ``teacher_recorders`` and ``loss_forward_mappings`` go on working, alone or beside it, and
      what they say stands.
    - A :class:`~dpk_mm.models.loss_parts.DistillLoss` is logged part by part (``loss_dpk.foreground``).
    - A loss with ``prepare_from_student`` or ``prepare_from_teacher`` is given that network once, when it is known.
    - The recorders let go of their features as soon as the losses are computed, so that no graph outlives its
      iteration; :meth:`pop_seen` gives a last look.

    Args:
        records: See :func:`~dpk_mm.models.distillers.records.expand_records`.
        distill_losses: Name -> config of a loss. A value of None drops a loss that a base config has.
        loss_forward_mappings: Loss -> argument -> record, in mmrazor's explicit form; what is missing is filled in.
        modules_ckpt: File that the transformation modules of ``DPKLoss`` start from, of ``tools/train_modules.py`` or a
            full checkpoint of a training with the same modules; all of them have to fit.
        **kwargs: Of ``ConfigurableDistiller``.

    Raises:
        UsageError: (a ValueError) If a record is malformed, a loss has an argument that nothing fills, or mappings are
            of no loss; if a recorder has recorded nothing when its loss is computed, or no gradient goes through what
            a loss reads of a student that is trained.
    """

    def __init__(
        self,
        records: Mapping[str, Any] | None = None,
        distill_losses: Mapping[str, Any] | None = None,
        loss_forward_mappings: Mapping[str, Any] | None = None,
        modules_ckpt: str | None = None,
        **kwargs: Any,
    ) -> None:
        records, distill_losses, loss_forward_mappings = map(
            _without_delete, (records, distill_losses, loss_forward_mappings)
        )
        expanded = expand_records(records)
        for side in SIDES:
            kwargs[f'{side}_recorders'] = expanded[side] | _without_delete(
                kwargs.get(f'{side}_recorders')
            )
        losses = {name: cfg for name, cfg in (distill_losses or {}).items() if cfg is not None}
        super().__init__(distill_losses=losses, **kwargs)
        mappings = _of_losses(loss_forward_mappings or {}, distill_losses or {})
        self._fill_mappings(mappings, kwargs)
        self.modules_ckpt = modules_ckpt
        self._seen: dict[str, Tensor] = {}
        self._begun: set[str] = set()
        self._teaching: set[str] = set()
        self._gates: dict[str, FeatureGate] = {}
        self._ran = PartsThatRan()
        # out of nn.Module's sight: no parameter, no child
        object.__setattr__(self, '_models', {})

    def init_weights(self) -> None:
        """Initialises losses and connectors as their ``init_cfg`` says, and loads ``modules_ckpt``."""
        super().init_weights()
        for value in (*self.distill_losses.values(), *self.connectors.values()):
            # mmengine passes over dicts of modules, and a list of connectors is a plain Sequential
            for part in value if type(value) is nn.Sequential else [value]:
                if _says_how_to_start(part) and not getattr(part, 'is_init', False):
                    part.init_weights()
        if self.modules_ckpt is not None:
            count = load_modules(self, self.modules_ckpt)
            print_log(
                f'The transformation modules start from {self.modules_ckpt} ({count} tensors).',
                'current',
            )

    def prepare_from_student(self, model: nn.Module) -> None:
        """Hooks the modules of the student that are recorded."""
        self._prepare('student', model)

    def prepare_from_teacher(self, model: nn.Module) -> None:
        """Hooks the modules of the teacher that are recorded."""
        self._prepare('teacher', model)

    def _prepare(self, side: str, model: nn.Module) -> None:
        manager = getattr(self, f'{side}_recorders')
        check = getattr(model, 'check_recorders', None)  # of a teacher that has not everything
        if check is not None:
            check({name: recorder.source for name, recorder in manager.recorders.items()})
        manager.initialize(model)
        self._models[side] = model
        self._ran.watch(side, manager, model)
        for loss in self.distill_losses.values():
            prepare = getattr(loss, f'prepare_from_{side}', None)
            if prepare is not None:  # a loss that reads more of a network than its features
                prepare(model)

    def attach_again(self) -> None:
        """Hooks the modules that have replaced recorded ones since, as a conversion to SyncBN does."""
        for side, model in self._models.items():
            found = attach_again(getattr(self, f'{side}_recorders'), model)
            if found:
                print_log(
                    f'{first_few(found)} of the {side} was replaced after the model was built; its recorder looks at '
                    'what stands there now.',
                    'current',
                )

    def get_record(
        self,
        recorder: str,
        from_student: bool,
        record_idx: int = 0,
        data_idx: int | None = None,
        **connector: Any,
    ) -> Any:
        """What a recorder has recorded of the batch, as mmrazor has it.

        Raises:
            UsageError: If it has recorded nothing, or less than ``record_idx`` or ``data_idx`` ask for.
        """
        side = 'student' if from_student else 'teacher'
        found = getattr(self, f'{side}_recorders').get_recorder(recorder)
        count = len(found.data_buffer)
        if not count:
            raise UsageError(why_empty(side, recorder, found, self._models.get(side), self._ran))
        where = f'{side}_recorders.{recorder} ({found.source})'
        if record_idx >= count:
            raise UsageError(
                f'{where} was run {count} times, but record_idx is {record_idx}: give one of 0..{count - 1}.'
            )
        if data_idx is not None:
            record = found.get_record_data(record_idx)
            items = len(record) if isinstance(record, (list, tuple)) else 0
            if not -items <= data_idx < items:
                there = f'a tuple of {items}' if items else f'a {type(record).__name__}, no tuple'
                raise UsageError(f'{where} gives {there}, but data_idx is {data_idx}.')
        return super().get_record(recorder, from_student, record_idx, data_idx, **connector)

    def gate(self, name: str) -> FeatureGate:
        """The gate between the student and a loss, which measures and scales its gradients; made at the first call.

        Raises:
            UsageError: If there is no such loss.
        """
        if name not in self.distill_losses:
            known = list(self.distill_losses)
            raise UsageError(
                f'distill_losses has no {name!r}, but {", ".join(known)}{did_you_mean(name, known) or "."}'
            )
        if name not in self._gates:
            loss = self.distill_losses[name]
            names = loss.feature_names() if isinstance(loss, DistillLoss) else {}
            arguments = student_arguments(self.loss_forward_mappings[name])
            self._gates[name] = FeatureGate(names, arguments)
        return self._gates[name]

    def _fill_mappings(self, given: dict[str, Any], recorders: Mapping[str, Any]) -> None:
        """Sets ``loss_forward_mappings``, and records the ground truth where a loss takes it."""
        by_side = {side: dict(recorders[f'{side}_recorders']) for side in SIDES}
        takes_samples = any(
            DATA_SAMPLES in arguments_of(loss) for loss in self.distill_losses.values()
        )
        if takes_samples and DATA_SAMPLES not in by_side['student']:
            by_side['student'][DATA_SAMPLES] = dict(type='ModuleInputs', source='')
            self.student_recorders = RecorderManager(by_side['student'])
        mappings = given | {
            name: fill_mapping(name, loss, given.get(name) or {}, by_side)
            for name, loss in self.distill_losses.items()
        }
        self._check_loss_forward_mappings(
            self.distill_losses, mappings, self.student_recorders, self.teacher_recorders
        )
        # in the order of the losses, which is that of the log
        self.loss_forward_mappings = {name: mappings[name] for name in self.distill_losses}

    def compute_distill_losses(self) -> dict[str, Tensor]:
        """All distillation losses of the recorded features.

        Returns:
            Scalars, ``<loss>`` or ``<loss>.<part>``.

        Raises:
            UsageError: If logits with different numbers of classes are compared.
        """
        losses = {}
        self._begun.clear()
        for name, mapping in self.loss_forward_mappings.items():
            self._begun.add(name)
            arguments = {key: self.get_record(**record) for key, record in mapping.items()}
            loss = self.distill_losses[name]
            sides = [
                [arguments[key] for key, record in mapping.items() if record['from_student'] is own]
                for own in (True, False)
            ]
            check_logits(name, loss, *sides)
            self._check_gradient(name, loss, mapping)
            if name in self._gates:
                arguments = self._gates[name](arguments)
            if isinstance(loss, DistillLoss):
                for part, value in loss.parts(**arguments).items():
                    losses[name if part == WHOLE else f'{name}.{part}'] = value
            else:
                losses[name] = loss(**arguments)
        self._seen = self._recorded()
        self.clear_records()
        self._begun.clear()
        self._ran.stop()
        return losses

    def _check_gradient(self, name: str, loss: nn.Module, mapping: Mapping[str, Any]) -> None:
        """Looks once whether a loss reaches the student: if not, its own modules train all the same, and nothing tells.

        What lies inside a reentrant checkpoint, torch's default, is recorded without a graph.
        """
        # a name without "loss" is a number for the log
        if name in self._teaching or 'loss' not in name or not torch.is_grad_enabled():
            return
        # it reads more of the student than its records, as CrossKD does with the head
        if hasattr(getattr(loss, 'criterion', loss), 'prepare_from_student'):
            return
        student = self._models.get('student')
        if student is None or not student.training:
            return
        if not any(p.requires_grad for p in student.parameters()):
            return  # what is trained is the distiller
        self._teaching.add(name)
        records = [
            (self.student_recorders.get_recorder(record['recorder']), record)
            for record in mapping.values()
            if record['from_student']
        ]
        # before a connector, whose own weights have gradients; the input of the whole model has none
        read = [
            (found.source, x)
            for found, record in records
            if found.source
            for x in tree_leaves(
                found.get_record_data(record.get('record_idx', 0), record.get('data_idx'))
            )
            if isinstance(x, Tensor) and x.is_floating_point()
        ]
        if read and not any(x.requires_grad for _, x in read):
            raise UsageError(
                f'distill_losses.{name} teaches the student nothing: no gradient goes through what it reads of it, '
                f'{first_few(dict.fromkeys(source for source, _ in read))}, which is frozen, detached, an '
                'input of the network or inside activation checkpointing (with_cp); record a layer outside of that, or '
                'checkpoint with use_reentrant=False.'
            )

    def compute_remaining_losses(self) -> None:
        """Computes the losses that a failed forward pass has not come to, as far as it can, and drops them.

        It is for what they exchange with other ranks, which wait for it.
        """
        for name, mapping in self.loss_forward_mappings.items():
            if name not in self._begun:
                with suppress(Exception):
                    self.distill_losses[name](
                        **{key: self.get_record(**record) for key, record in mapping.items()}
                    )
        self._begun.clear()

    def pop_seen(self) -> dict[str, Tensor]:
        """The features of the last losses, detached, the teacher's first; they are given once.

        After a forward pass that ended before its losses: those that were recorded until then.

        Returns:
            By a name for the user, such as 'teacher feature neck[2] (P4)'.
        """
        seen, self._seen = self._seen or self._recorded(), {}
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
        """(side, recorder, index) -> the name that a loss such as ``DPKLoss`` has for this feature."""
        stages = {}
        for name, mapping in self.loss_forward_mappings.items():
            loss = self.distill_losses[name]
            names = loss.feature_names() if isinstance(loss, DistillLoss) else {}
            for (side, index), stage in names.items():
                record = mapping.get(f'{side}_feats')
                if record is not None:
                    stages[side, record['recorder'], index] = stage
        return stages

    def clear_records(self) -> None:
        """Drops every recorded feature."""
        for manager in (self.student_recorders, self.teacher_recorders):
            for recorder in manager.recorders.values():
                recorder.reset_data_buffer()


def _says_how_to_start(module: nn.Module) -> bool:
    """Whether ``init_weights()`` does what a constructor has not: of others it would only draw the same layers anew."""
    own = getattr(type(module), 'init_weights', None)
    return own is not None and (
        bool(getattr(module, 'init_cfg', None)) or own is not BaseModule.init_weights
    )


def _without_delete(cfg: Mapping[str, Any] | None) -> dict[str, Any]:
    """A dict of a config without ``_delete_``, which mmengine leaves where the base has nothing to delete."""
    return {
        key: _without_delete(value) if isinstance(value, Mapping) else value
        for key, value in (cfg or {}).items()
        if key != '_delete_'
    }


def _of_losses(mappings: Mapping[str, Any], losses: Mapping[str, Any]) -> dict[str, Any]:
    """The mappings without those of losses that were dropped, which a base config still has."""
    for name, mapping in mappings.items():
        if name not in losses and mapping is not None:
            there = f'distill_losses has {first_few(losses)}' if losses else 'there is no loss'
            raise UsageError(
                f'loss_forward_mappings has {name!r}, but {there}'
                f'{did_you_mean(name, losses) or "; name a loss, or take the mapping out."}'
            )
    return {name: mapping for name, mapping in mappings.items() if losses.get(name) is not None}
