"""The metrics of a validation that are single numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor


def numbers(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    """What can be compared: metrics by class, which mmpretrain gives as lists, are left out.

    Args:
        metrics: Name -> value, as an evaluator gives them; None and an empty one stand for no metrics, as mmdet gives
            where nothing was detected.

    Returns:
        Name -> number, in their order.
    """
    return {name: float(value) for name, value in (metrics or {}).items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    if isinstance(value, (Tensor, np.ndarray)):
        return value.size == 1 if isinstance(value, np.ndarray) else value.numel() == 1
    return isinstance(value, (int, float, np.number))
