"""Means over mini-batches, small enough to be saved with a checkpoint."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor


class Average(Protocol):
    """A running mean of small float64 tensors."""

    def update(self, value: Tensor) -> Tensor:
        """Adds a value and returns the mean with it."""

    def state_dict(self) -> dict[str, Any]:
        """The state in plain numbers."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores it bit for bit; the state of another kind of mean is ignored."""


class WindowMean:
    """The mean of the last ``size`` values, of fewer while there are fewer.

    Args:
        size: At least 1.
    """

    def __init__(self, size: int) -> None:
        self.values: deque[Tensor] = deque(maxlen=size)

    def update(self, value: Tensor) -> Tensor:
        """See :meth:`Average.update`."""
        self.values.append(value)
        return torch.stack(tuple(self.values)).mean(0)

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Average.state_dict`."""
        return dict(kind='window', values=[value.tolist() for value in self.values])

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :meth:`Average.load_state_dict`."""
        if state['kind'] == 'window':  # a smaller window keeps the newest
            self.values.clear()
            self.values.extend(torch.tensor(v, dtype=torch.float64) for v in state['values'])


class ExponentialMean:
    """``sum_i m^(t-i) v_i / sum_i m^(t-i)`` over the values v_1 .. v_t.

    The weights sum to one from the first value on, so the mean has no bias towards a start value.

    Args:
        momentum: m in [0, 1).
    """

    def __init__(self, momentum: float) -> None:
        self.momentum = momentum
        self.total: Tensor | None = None
        self.weight = 0.0

    def update(self, value: Tensor) -> Tensor:
        """See :meth:`Average.update`."""
        self.total = value if self.total is None else self.momentum * self.total + value
        self.weight = self.momentum * self.weight + 1.0
        return self.total / self.weight

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Average.state_dict`."""
        total = None if self.total is None else self.total.tolist()
        return dict(kind='exponential', total=total, weight=self.weight)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :meth:`Average.load_state_dict`."""
        if state['kind'] == 'exponential' and state['total'] is not None:
            self.total = torch.tensor(state['total'], dtype=torch.float64)
            self.weight = float(state['weight'])
