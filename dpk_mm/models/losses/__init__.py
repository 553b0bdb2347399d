"""Distillation losses, one method a file."""

from ..loss_parts.fgd_weights import resolve_weights
from .cwd_loss import CWDLoss
from .dpk_loss import DPKLoss
from .fgd_loss import FGDLoss
from .fgfi_loss import FGFILoss
from .gid_loss import GIDLoss
from .kd_loss import KDLoss
from .mgd_loss import LevelMGDLoss
from .pkd_loss import LevelPKDLoss

__all__ = [
    'CWDLoss',
    'DPKLoss',
    'FGDLoss',
    'FGFILoss',
    'GIDLoss',
    'KDLoss',
    'LevelMGDLoss',
    'LevelPKDLoss',
    'resolve_weights',
]
