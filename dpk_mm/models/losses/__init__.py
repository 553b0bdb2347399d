"""Distillation losses, one method a file."""

from ..loss_parts.fgd_weights import resolve_weights
from .activation_boundary_loss import ActivationBoundaryLoss
from .afd_loss import AFDLoss
from .attention_transfer_loss import AttentionTransferLoss
from .contrastive_loss import ContrastiveLoss
from .dpk_loss import DPKLoss
from .factor_transfer_loss import FactorTransferLoss
from .fgd_loss import FGDLoss
from .fitnet_loss import FitNetLoss
from .ickd_loss import ICKDLoss
from .kd_loss import KDLoss
from .manifold_loss import ManifoldLoss
from .overhaul_loss import OverhaulLoss
from .reviewkd_loss import ReviewKDLoss
from .vid_loss import VIDLoss

__all__ = [
    'AFDLoss',
    'ActivationBoundaryLoss',
    'AttentionTransferLoss',
    'ContrastiveLoss',
    'DPKLoss',
    'FGDLoss',
    'FactorTransferLoss',
    'FitNetLoss',
    'ICKDLoss',
    'KDLoss',
    'ManifoldLoss',
    'OverhaulLoss',
    'ReviewKDLoss',
    'VIDLoss',
    'resolve_weights',
]
