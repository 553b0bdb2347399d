"""Distillation losses, one method a file."""

from ..loss_parts.fgd_weights import resolve_weights
from .cc_loss import CCLoss
from .decoupled_kd_loss import DecoupledKDLoss
from .dist_kd_loss import DISTKDLoss
from .dpk_loss import DPKLoss
from .fgd_loss import FGDLoss
from .hard_distill_loss import HardDistillLoss
from .kd_loss import KDLoss
from .nkd_loss import NKDLoss
from .pkt_loss import PKTLoss
from .rkd_loss import RKDLoss
from .sp_loss import SPLoss

__all__ = [
    'CCLoss',
    'DISTKDLoss',
    'DPKLoss',
    'DecoupledKDLoss',
    'FGDLoss',
    'HardDistillLoss',
    'KDLoss',
    'NKDLoss',
    'PKTLoss',
    'RKDLoss',
    'SPLoss',
    'resolve_weights',
]
