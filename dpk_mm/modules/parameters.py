"""Number of parameters of a module."""

from __future__ import annotations

from torch import nn


def count_parameters(module: nn.Module, trainable_only: bool = True) -> int:
    """The number of parameters of a module; buffers are not counted.

    Args:
        module: Any module; shared parameters count once.
        trainable_only: Whether frozen parameters, those without gradient, are left out.
    """
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable_only)
