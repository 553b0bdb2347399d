"""What a distiller looks at, as a config says it, and which argument of a loss gets what."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from ...errors import UsageError, did_you_mean

SIDES = ('student', 'teacher')
DATA_SAMPLES = 'data_samples'

Recorders = dict[str, dict[str, Any]]


def expand_records(records: Mapping[str, Any] | None) -> dict[str, Recorders]:
    """Turns ``records`` into the recorders of both sides.

    Args:
        records: Name -> where it is found: the name of a module (``'neck'``), a list of names, whose outputs become
            one tuple, or the config of a recorder (``dict(type='MethodInputs', source=...)``), for both sides; or
            ``dict(student=..., teacher=...)`` with one of these for each side, or for one of them alone. None drops a
            record that a base config has.

    Returns:
        ``dict(student=..., teacher=...)`` of recorder configs by name, as mmrazor's ``student_recorders`` takes them.

    Raises:
        UsageError: (a ValueError) If a record is none of these.
    """
    found: dict[str, Recorders] = {side: {} for side in SIDES}
    for name, place in (records or {}).items():
        if place is None:
            continue
        sides = dict.fromkeys(SIDES, place)
        if isinstance(place, Mapping):
            # mmengine leaves it where no base has this key
            place = {key: value for key, value in place.items() if key != '_delete_'}
        if isinstance(place, Mapping) and 'type' not in place:
            unknown = [key for key in place if key not in SIDES]
            if unknown or not place:
                raise UsageError(
                    f'records.{name} must be the name of a module, a list of names, a recorder with type, or a dict of '
                    f'student and teacher, but {f"has the key {unknown[0]!r}" if unknown else "is empty"}.'
                )
            sides = dict(place)
        for side, source in sides.items():
            if source is not None:
                found[side][name] = _recorder(f'records.{name}', source)
    return found


def _recorder(where: str, source: Any) -> dict[str, Any]:
    if isinstance(source, str):
        return dict(type='ModuleOutputs', source=source)
    if isinstance(source, Mapping) and 'type' in source:
        return dict(source)
    if isinstance(source, (list, tuple)) and source and all(isinstance(s, str) for s in source):
        return dict(type='MultiModuleOutputs', source=list(source))
    raise UsageError(
        f'{where} must be the name of a module, a list of names, or a recorder with type, but is {source!r}.'
    )


def arguments_of(loss: nn.Module) -> dict[str, inspect.Parameter]:
    """The arguments that a loss takes for its features, by name."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(loss.forward).parameters
    return {name: p for name, p in parameters.items() if p.kind in kinds}


def fill_mapping(
    name: str, loss: nn.Module, given: Mapping[str, Any], recorders: Mapping[str, Recorders]
) -> dict[str, dict[str, Any]]:
    """The entry of a loss in ``loss_forward_mappings``, filled in by the names of its arguments.

    ``student_<record>`` and ``teacher_<record>`` are the records of that name, ``data_samples`` the ground truth that
    the student is given. What the config maps itself stays, and where it maps something, only arguments without a
    default are filled in.

    Args:
        name: The loss's key in ``distill_losses``.
        loss: The loss.
        given: Its entry in the config's ``loss_forward_mappings``.
        recorders: By side and name.

    Returns:
        Argument -> arguments of ``get_record``.

    Raises:
        UsageError: (a ValueError) If an argument without a default is left.
    """
    mapping = {key: dict(record) for key, record in given.items()}
    missing = []
    for argument, parameter in arguments_of(loss).items():
        optional = parameter.default is not parameter.empty
        if argument in given or (given and optional):
            continue
        side, _, record = argument.partition('_')
        if argument == DATA_SAMPLES:
            mapping[argument] = dict(recorder=DATA_SAMPLES, from_student=True, data_idx=1)
        elif side in SIDES and record in recorders[side]:
            mapping[argument] = dict(recorder=record, from_student=side == 'student')
        elif not optional:
            missing.append(argument)
    if missing:
        raise UsageError(_missing(name, loss, missing[0], recorders))
    return mapping


def _missing(name: str, loss: nn.Module, argument: str, recorders: Mapping[str, Recorders]) -> str:
    kind = type(loss).__name__
    side, _, record = argument.partition('_')
    if side not in SIDES or not record:
        return (
            f'distill_losses.{name}: {kind} takes {argument}, which no record fills, since it is not called '
            f'student_... or teacher_...; map it in loss_forward_mappings.{name}, or take a loss of dpk_mm, such as '
            'KDLoss for KLDivergence.'
        )
    known = [*recorders[side]]
    there = (
        f'the records of the {side} are {", ".join(known)}'
        if known
        else f'there is none of the {side}'
    )
    return (
        f'distill_losses.{name}: {kind} needs {argument}, but {there}{did_you_mean(record, known).rstrip("?")}; add '
        f"records=dict({record}=...) to the distiller, such as records=dict(feats='neck', logits='head.fc'), or map "
        f'it in loss_forward_mappings.{name}.'
    )
