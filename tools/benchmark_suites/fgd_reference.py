"""FGD written down term by term: what a plain implementation of the formulas costs.

It is what :class:`dpk_mm.models.losses.FGDLoss` is timed against, and its oracle in the tests: a
loop over images and boxes, and every term on full-size tensors of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dpk_mm.modules import ContextBlock


def box_masks_by_loop(
    boxes: Sequence[Tensor], image_shape: tuple[int, int], feature_shape: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Foreground and background weights, box by box.

    Args:
        boxes: N tensors ``[G, 4]``, pixels of the padded batch, inside the image.
        image_shape: (height, width) of the padded batch.
        feature_shape: (H, W).

    Returns:
        Foreground and background, ``[N, H, W]`` each.
    """
    height, width = feature_shape
    device = boxes[0].device
    foreground = torch.zeros(len(boxes), height, width, device=device)
    background = torch.ones(len(boxes), height, width, device=device)
    for i, image in enumerate(boxes):
        for box in image:
            x1, y1, x2, y2 = box.tolist()
            left = math.floor(x1 / image_shape[1] * width)
            top = math.floor(y1 / image_shape[0] * height)
            right = math.ceil(x2 / image_shape[1] * width)
            bottom = math.ceil(y2 / image_shape[0] * height)
            value = 1.0 / ((right - left + 1) * (bottom - top + 1))
            place = (i, slice(top, bottom + 1), slice(left, right + 1))
            foreground[place] = foreground[place].clamp_min(value)
            background[place] = 0
        count = background[i].sum()
        if count > 0:
            background[i] /= count
    return foreground, background


def fgd_by_terms(
    student: Tensor,
    teacher: Tensor,
    boxes: Sequence[Tensor],
    image_shape: tuple[int, int],
    weights: tuple[float, float, float, float],
    student_context: ContextBlock,
    teacher_context: ContextBlock,
    temperature: float = 0.5,
) -> Tensor:
    """The FGD loss of one level as its formulas say it; see ``FGDLoss`` for them.

    Args:
        student: ``[N, C, H, W]``.
        teacher: ``[N, C, H, W]``.
        boxes: N tensors ``[G, 4]``.
        image_shape: (height, width) of the padded batch.
        weights: alpha, beta, gamma, lam.
        student_context: The student's context block.
        teacher_context: The teacher's context block.
        temperature: T of the attentions.

    Returns:
        A scalar.
    """
    alpha, beta, gamma, lam = weights
    n, c, h, w = teacher.shape
    foreground, background = box_masks_by_loop(boxes, image_shape, (h, w))

    def attentions(feature: Tensor) -> tuple[Tensor, Tensor]:
        magnitude = feature.abs()
        spatial = h * w * (magnitude.mean(1).view(n, -1) / temperature).softmax(1)
        channel = c * (magnitude.mean(2).mean(2) / temperature).softmax(1)
        return spatial.view(n, h, w), channel

    spatial_t, channel_t = attentions(teacher)
    spatial_s, channel_s = attentions(student)
    total = student.new_zeros(())
    for weight, mask in ((alpha, foreground), (beta, background)):
        scaled = []
        for feature in (student, teacher):
            feature = feature * spatial_t.unsqueeze(1).sqrt()
            feature = feature * channel_t[:, :, None, None].sqrt()
            scaled.append(feature * mask.unsqueeze(1).sqrt())
        total = total + weight * F.mse_loss(*scaled, reduction='sum') / n
    attention = (channel_s - channel_t).abs().sum() + (spatial_s - spatial_t).abs().sum()
    total = total + gamma * attention / n
    out_s = student + student_context(student)[:, :, None, None]
    out_t = teacher + teacher_context(teacher)[:, :, None, None]
    return total + lam * F.mse_loss(out_s, out_t, reduction='sum') / n
