"""Distillation losses, one method a file."""

from ..loss_parts.fgd_weights import resolve_weights
from .cc_loss import CCLoss
from .cwd_loss import CWDLoss
from .decoupled_kd_loss import DecoupledKDLoss
from .dist_kd_loss import DISTKDLoss
from .dpk_loss import DPKLoss
from .fgd_loss import FGDLoss
from .fgfi_loss import FGFILoss
from .gid_loss import GIDLoss
from .hard_distill_loss import HardDistillLoss
from .kd_loss import KDLoss
from .mgd_loss import LevelMGDLoss
from .nkd_loss import NKDLoss
from .pkd_loss import LevelPKDLoss
from .pkt_loss import PKTLoss
from .rkd_loss import RKDLoss
from .sp_loss import SPLoss

__all__ = [
    'CCLoss',
    'CWDLoss',
    'DISTKDLoss',
    'DPKLoss',
    'DecoupledKDLoss',
    'FGDLoss',
    'FGFILoss',
    'GIDLoss',
    'HardDistillLoss',
    'KDLoss',
    'LevelMGDLoss',
    'LevelPKDLoss',
    'NKDLoss',
    'PKTLoss',
    'RKDLoss',
    'SPLoss',
    'resolve_weights',
]
