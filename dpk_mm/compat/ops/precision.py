"""The precision in which the stand-ins compute."""

from __future__ import annotations

import torch
from torch import Tensor


def widen(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Brings floating tensors to the widest dtype among them, float32 at least.

    torchvision has no float16 or bfloat16 kernel for some of its ops on some devices, and wants
    one dtype for all arguments; mmcv takes half precision and mixtures. Coordinates in half
    precision would also be off by up to half a pixel at 1333 pixels.
    """
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)
