"""Losses on features."""

from .dpk_loss import DPKLoss
from .fgd_loss import FGDLoss
from .fgd_weights import resolve_weights

__all__ = ['DPKLoss', 'FGDLoss', 'resolve_weights']
