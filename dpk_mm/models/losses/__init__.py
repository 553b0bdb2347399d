"""Distillation losses, one method a file."""

from ..loss_parts.fgd_weights import resolve_weights
from .activation_boundary_loss import ActivationBoundaryLoss
from .afd_loss import AFDLoss
from .agnl_loss import AGNLLoss
from .attention_transfer_loss import AttentionTransferLoss
from .cc_loss import CCLoss
from .contrastive_loss import ContrastiveLoss
from .crosskd_loss import CrossKDLoss
from .cwd_loss import CWDLoss
from .decoupled_kd_loss import DecoupledKDLoss
from .dist_kd_loss import DISTKDLoss
from .dpk_loss import DPKLoss
from .factor_transfer_loss import FactorTransferLoss
from .fgd_loss import FGDLoss
from .fgfi_loss import FGFILoss
from .fitnet_loss import FitNetLoss
from .gid_loss import GIDLoss
from .hard_distill_loss import HardDistillLoss
from .ickd_loss import ICKDLoss
from .kd_loss import KDLoss
from .manifold_loss import ManifoldLoss
from .mgd_loss import LevelMGDLoss
from .nkd_loss import NKDLoss
from .overhaul_loss import OverhaulLoss
from .pkd_loss import LevelPKDLoss
from .pkt_loss import PKTLoss
from .reviewkd_loss import ReviewKDLoss
from .rkd_loss import RKDLoss
from .sp_loss import SPLoss
from .teacher_head_loss import TeacherHeadLoss
from .tofd_loss import TOFDLoss
from .vid_loss import VIDLoss

__all__ = [
    'AFDLoss',
    'AGNLLoss',
    'ActivationBoundaryLoss',
    'AttentionTransferLoss',
    'CCLoss',
    'CWDLoss',
    'ContrastiveLoss',
    'CrossKDLoss',
    'DISTKDLoss',
    'DPKLoss',
    'DecoupledKDLoss',
    'FGDLoss',
    'FGFILoss',
    'FactorTransferLoss',
    'FitNetLoss',
    'GIDLoss',
    'HardDistillLoss',
    'ICKDLoss',
    'KDLoss',
    'LevelMGDLoss',
    'LevelPKDLoss',
    'ManifoldLoss',
    'NKDLoss',
    'OverhaulLoss',
    'PKTLoss',
    'RKDLoss',
    'ReviewKDLoss',
    'SPLoss',
    'TOFDLoss',
    'TeacherHeadLoss',
    'VIDLoss',
    'resolve_weights',
]
