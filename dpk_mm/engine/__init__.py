"""What runs around the model: hooks, and what the tools call."""

from . import joint_optim_wrapper  # noqa: F401  registers itself
from .cpu_amp import CPUAmpOptimWrapper
from .hooks import (
    CKAMaskRatioHook,
    CosineMaskRatioHook,
    ExponentialMaskRatioHook,
    FixedMaskRatioHook,
    LinearMaskRatioHook,
    LossGradientHook,
    StudentCheckpointHook,
    TeacherCheckHook,
)

__all__ = [
    'CKAMaskRatioHook',
    'CPUAmpOptimWrapper',
    'CosineMaskRatioHook',
    'ExponentialMaskRatioHook',
    'FixedMaskRatioHook',
    'LinearMaskRatioHook',
    'LossGradientHook',
    'StudentCheckpointHook',
    'TeacherCheckHook',
]
