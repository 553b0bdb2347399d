"""Mask-ratio policies: how much of the hybrid feature the teacher gives."""

from .policy import Features, MaskRatioPolicy
from .schedules import ExponentialMaskRatio, FixedMaskRatio, LinearMaskRatio
from .similarity import CKAMaskRatio, CosineMaskRatio

__all__ = [
    'CKAMaskRatio',
    'CosineMaskRatio',
    'ExponentialMaskRatio',
    'Features',
    'FixedMaskRatio',
    'LinearMaskRatio',
    'MaskRatioPolicy',
]
