"""Distillation losses, one method a file."""

from ..loss_parts.fgd_weights import resolve_weights
from .dpk_loss import DPKLoss
from .fgd_loss import FGDLoss
from .fitnet_loss import FitNetLoss
from .kd_loss import KDLoss

__all__ = [
    'DPKLoss',
    'FGDLoss',
    'FitNetLoss',
    'KDLoss',
    'resolve_weights',
]
