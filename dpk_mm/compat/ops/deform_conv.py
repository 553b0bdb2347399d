"""Deformable convolution, first version and modulated second version.

Offsets are ``(y, x)`` pairs per kernel point and deformable group in both libraries.
"""

from __future__ import annotations

import torch
import torchvision  # noqa: F401  (registers torch.ops.torchvision)
from torch import Tensor

from .precision import widen


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Deformable convolution without modulation (Dai et al., 2017).

    Args:
        input: Features, ``[N, C, H, W]``.
        weight: Kernels, ``[O, C / group, kH, kW]``.
        offset: Displacements in pixels, ``[N, 2 * deformable_group * kH * kW, H', W']``.
        output: Receives the result, ``[N, O, H', W']``.
        columns: Scratch of the original; not used.
        ones: Scratch of the original; not used.
        kW: Width of the kernel; taken from ``weight`` here, as is ``kH``.
        kH: Height of the kernel.
        dW: Stride in x.
        dH: Stride in y.
        padW: Zero padding in x.
        padH: Zero padding in y.
        dilationW: Dilation in x.
        dilationH: Dilation in y.
        group: Groups of the convolution.
        deformable_group: Groups of channels that share offsets.
        im2col_step: How many images the original unfolds at a time; not used.
    """
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    output.copy_(_forward(input, weight, offset, None, None, geometry))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Adds the gradients of :func:`deform_conv_forward` by features and offsets.

    torchvision computes all gradients at once, and mmcv asks for those of the weights in a second
    call, so a backward pass of the first version does the work twice here.
    """
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    by_input, _, by_offset, _, _ = _backward(
        gradOutput, input, weight, offset, None, None, geometry
    )
    gradInput += by_input
    gradOffset += by_offset


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Adds ``scale`` times the gradient of :func:`deform_conv_forward` by the kernels."""
    # The gradient by the kernels does not depend on their values, which mmcv does not pass.
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    by_weight = _backward(
        gradOutput, input, torch.zeros_like(gradWeight), offset, None, None, geometry
    )[1]
    gradWeight += scale * by_weight


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Deformable convolution with modulation (Zhu et al., 2019).

    Args:
        input: Features, ``[N, C, H, W]``.
        weight: Kernels, ``[O, C / group, kernel_h, kernel_w]``.
        bias: ``[O]``; ignored without ``with_bias``.
        ones: Scratch of the original; not used.
        offset: Displacements in pixels, ``[N, 2 * deformable_group * kernel_h * kernel_w, H',
            W']``.
        mask: Modulation of each kernel point, ``[N, deformable_group * kernel_h * kernel_w, H',
            W']``.
        output: Receives the result, ``[N, O, H', W']``.
        columns: Scratch of the original; not used.
        kernel_h: Height of the kernel; taken from ``weight`` here, as is ``kernel_w``.
        kernel_w: Width of the kernel.
        stride_h: Stride in y.
        stride_w: Stride in x.
        pad_h: Zero padding in y.
        pad_w: Zero padding in x.
        dilation_h: Dilation in y.
        dilation_w: Dilation in x.
        group: Groups of the convolution.
        deformable_group: Groups of channels that share offsets and modulation.
        with_bias: Whether ``bias`` is added.
    """
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    output.copy_(_forward(input, weight, offset, mask, bias if with_bias else None, geometry))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Adds the gradients of :func:`modulated_deform_conv_forward` to the ``grad_*`` tensors."""
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    by_input, by_weight, by_offset, by_mask, by_bias = _backward(
        grad_output, input, weight, offset, mask, bias if with_bias else None, geometry
    )
    grad_input += by_input
    grad_weight += by_weight
    grad_offset += by_offset
    grad_mask += by_mask
    if with_bias:
        grad_bias += by_bias


def _operands(
    input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, ...]:
    # torchvision wants tensors in the places of an absent mask and an absent bias.
    mask = input.new_zeros(input.size(0), 1) if mask is None else mask
    bias = input.new_zeros(weight.size(0)) if bias is None else bias
    return widen(input, weight, offset, mask, bias)


def _forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    geometry: tuple[int, ...],
) -> Tensor:
    operands = _operands(input, weight, offset, mask, bias)
    return torch.ops.torchvision.deform_conv2d(*operands, *geometry, mask is not None)


def _backward(
    grad_output: Tensor,
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    geometry: tuple[int, ...],
) -> tuple[Tensor, ...]:
    operands = _operands(input, weight, offset, mask, bias)
    grad_output = grad_output.to(operands[0].dtype)
    return torch.ops.torchvision._deform_conv2d_backward(
        grad_output, *operands, *geometry, mask is not None
    )
