"""Sigmoid focal loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from .precision import widen


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss (Lin et al., 2017, Eq. 5) of one binary classifier per class.

    Args:
        input: Logits, ``[N, C]``.
        target: Class of each row, int64, ``[N]``; anything outside ``[0, C)`` is background.
        weight: Weight of each class, ``[C]``, or empty for none. It multiplies the row of a
            sample of that class; for background rows, where mmcv reads past the end of it, the
            factor is 1.
        output: Receives the losses, ``[N, C]``.
        gamma: Focusing parameter, >= 0.
        alpha: Weight of the positive class; negatives have ``1 - alpha``.
    """
    (logits,) = widen(input)
    log_p, log_q = logsigmoid(logits), logsigmoid(-logits)
    positive = -alpha * torch.exp(gamma * log_q) * log_p
    negative = -(1 - alpha) * torch.exp(gamma * log_p) * log_q
    output.copy_(_select(positive, negative, target, weight))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Writes the derivative of each loss by its own logit to ``grad_input`` (``[N, C]``)."""
    (logits,) = widen(input)
    log_p, log_q = logsigmoid(logits), logsigmoid(-logits)
    p, q = log_p.exp(), log_q.exp()
    positive = -alpha * torch.exp(gamma * log_q) * (q - gamma * p * log_p)
    negative = -(1 - alpha) * torch.exp(gamma * log_p) * (gamma * q * log_q - p)
    grad_input.copy_(_select(positive, negative, target, weight))


def _select(positive: Tensor, negative: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    num_classes = positive.size(1)
    is_class = target[:, None] == torch.arange(num_classes, device=target.device)
    chosen = torch.where(is_class, positive, negative)
    if weight.numel():
        inside = (target >= 0) & (target < num_classes)
        row_weight = weight[target.clamp(0, num_classes - 1)].to(chosen.dtype)
        chosen = chosen * torch.where(inside, row_weight, torch.ones_like(row_weight))[:, None]
    return chosen
