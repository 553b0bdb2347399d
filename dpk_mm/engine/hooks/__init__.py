"""Hooks of the training loop."""

from .distill_alarm_hook import DistillAlarmHook
from .gradient_share_hook import GradientShareHook
from .loss_gradient_hook import LossGradientHook
from .mask_ratio_hook import (
    CKAMaskRatioHook,
    CosineMaskRatioHook,
    ExponentialMaskRatioHook,
    FixedMaskRatioHook,
    LinearMaskRatioHook,
)
from .replay_hook import ReplayHook
from .stop_distill_hook import StopDistillHook
from .student_checkpoint_hook import StudentCheckpointHook
from .teacher_check_hook import TeacherCheckHook
from .upstream_check_hook import SingleTeacherDistillValLoop
from .warmup_hook import WarmupHook

__all__ = [
    'CKAMaskRatioHook',
    'CosineMaskRatioHook',
    'DistillAlarmHook',
    'ExponentialMaskRatioHook',
    'FixedMaskRatioHook',
    'GradientShareHook',
    'LinearMaskRatioHook',
    'LossGradientHook',
    'ReplayHook',
    'SingleTeacherDistillValLoop',
    'StopDistillHook',
    'StudentCheckpointHook',
    'TeacherCheckHook',
    'WarmupHook',
]
