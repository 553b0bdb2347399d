"""RoIAlign with average pooling."""

from __future__ import annotations

import torch
import torchvision  # noqa: F401  (registers torch.ops.torchvision)
from torch import Tensor

from .precision import widen

_AVG = 1


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Pools each region of interest to a fixed size.

    Args:
        input: Features, ``[N, C, H, W]``.
        rois: Rows ``(batch index, x1, y1, x2, y2)`` in image pixels, ``[K, 5]``.
        output: Receives the pooled features, ``[K, C, aligned_height, aligned_width]``.
        argmax_y: Not used by average pooling.
        argmax_x: Not used by average pooling.
        aligned_height: Height of the output.
        aligned_width: Width of the output.
        spatial_scale: Feature pixels per image pixel.
        sampling_ratio: Samples per bin and direction; 0 takes as many as the bin is large.
        pool_mode: 1 for average; 0, maximum, is not available.
        aligned: Whether pixel centres lie at half coordinates (the accurate form).

    Raises:
        NotImplementedError: If maximum pooling is asked for.
    """
    _require_average(pool_mode)
    features, rois = widen(input, rois)
    output.copy_(
        torch.ops.torchvision.roi_align(
            features, rois, spatial_scale, aligned_height, aligned_width, sampling_ratio, aligned
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Adds the gradient with respect to the features to ``grad_input`` (``[N, C, H, W]``)."""
    _require_average(pool_mode)
    grad_output, rois = widen(grad_output, rois)
    grad_input += torch.ops.torchvision._roi_align_backward(
        grad_output,
        rois,
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )


def _require_average(pool_mode: int) -> None:
    if pool_mode != _AVG:
        raise NotImplementedError(
            "RoIAlign with pool_mode='max' needs a compiled mmcv, but the one installed is without "
            "compiled ops: use pool_mode='avg', or replace mmcv-lite by mmcv built for your torch."
        )
