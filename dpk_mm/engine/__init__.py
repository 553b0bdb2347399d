"""What runs around the model: hooks, and what the tools call."""

from .hooks import (
    CKAMaskRatioHook,
    CosineMaskRatioHook,
    ExponentialMaskRatioHook,
    FixedMaskRatioHook,
    LinearMaskRatioHook,
    StudentCheckpointHook,
)

__all__ = [
    'CKAMaskRatioHook',
    'CosineMaskRatioHook',
    'ExponentialMaskRatioHook',
    'FixedMaskRatioHook',
    'LinearMaskRatioHook',
    'StudentCheckpointHook',
]
