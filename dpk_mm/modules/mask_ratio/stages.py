"""Arguments that are one number for all stages, or a number for each stage."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

PerStage = float | Mapping[str, float]
"""``0.5``, or ``dict(P4=0.5, P5=0.3)``."""


def number(name: str, value: float, low: float = 0.0, high: float = 1.0) -> float:
    """Checks one number.

    Args:
        name: Its name, for the message.
        value: The number.
        low: Least value allowed.
        high: Greatest value allowed.

    Returns:
        ``value`` as a finite float in [low, high].

    Raises:
        ValueError: If it is no number, not finite or outside.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        expected = (
            f'in [{low:g}, {high:g}]' if math.isfinite(high) else f'finite and at least {low:g}'
        )
        found = value if is_number else repr(value)
        raise ValueError(f'{name} must be {expected}, but is {found}.')
    return float(value)


def per_stage(
    name: str, value: PerStage, low: float = 0.0, high: float = 1.0
) -> float | dict[str, float]:
    """Checks a number, or a dict of numbers by stage; see :func:`number` for the arguments.

    Raises:
        ValueError: If a number is outside of [low, high], or the dict is empty.
    """
    if not isinstance(value, Mapping):
        return number(name, value, low, high)
    if not value:
        raise ValueError(f'{name} is a dict by stage, but names no stage; give a number instead.')
    return {stage: number(f'{name}.{stage}', v, low, high) for stage, v in value.items()}


def stage_value(name: str, value: PerStage, stage: str) -> float:
    """The number of one stage.

    Args:
        name: Name of the argument, for the message.
        value: One number for all stages, or a dict by stage.
        stage: The stage.

    Raises:
        ValueError: If a dict has no entry for it.
    """
    if not isinstance(value, Mapping):
        return value
    if stage not in value:
        raise ValueError(
            f'{name} has no entry for stage {stage!r}, only for {", ".join(value)}; give one for '
            'each stage, or one number for all.'
        )
    return value[stage]


def check_names(name: str, value: PerStage, stages: Collection[str]) -> None:
    """Compares the stages that an argument names with those of the model.

    Args:
        name: Name of the argument, for the message.
        value: One number for all stages, or a dict by stage.
        stages: The stages of the model.

    Raises:
        ValueError: If a dict lacks a stage or has another one.
    """
    if isinstance(value, Mapping) and set(value) != set(stages):
        raise ValueError(
            f'{name} has entries for {", ".join(value)}, but the stages of the model are '
            f'{", ".join(stages)}; give one for each of them, or one number for all.'
        )
