"""What runs around the model: hooks, and what the tools call."""

from .hooks import (
    CKAMaskRatioHook,
    CosineMaskRatioHook,
    DistillAlarmHook,
    ExponentialMaskRatioHook,
    FixedMaskRatioHook,
    LinearMaskRatioHook,
    LossGradientHook,
    StopDistillHook,
    StudentCheckpointHook,
    TeacherCheckHook,
)
from .optimizers import CPUAmpOptimWrapper

__all__ = [
    'CKAMaskRatioHook',
    'CPUAmpOptimWrapper',
    'CosineMaskRatioHook',
    'DistillAlarmHook',
    'ExponentialMaskRatioHook',
    'FixedMaskRatioHook',
    'LinearMaskRatioHook',
    'LossGradientHook',
    'StopDistillHook',
    'StudentCheckpointHook',
    'TeacherCheckHook',
]
