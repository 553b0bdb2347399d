"""What the losses share: their base, levels and stages, ground truth, named weights."""

from .distill_loss import DistillLoss

__all__ = ['DistillLoss']
