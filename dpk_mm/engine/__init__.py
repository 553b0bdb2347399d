"""What runs around the model: hooks, and what the tools call."""

from .datasets import ReplayDataset
from .hooks import (
    CKAMaskRatioHook,
    CosineMaskRatioHook,
    DistillAlarmHook,
    ExponentialMaskRatioHook,
    FixedMaskRatioHook,
    LinearMaskRatioHook,
    LossGradientHook,
    ReplayHook,
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
    'ReplayDataset',
    'ReplayHook',
    'StopDistillHook',
    'StudentCheckpointHook',
    'TeacherCheckHook',
]
