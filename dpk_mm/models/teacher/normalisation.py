"""The batch as the teacher wants it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class TeacherInput(nn.Module):
    """Turns a batch with the student's normalisation into one with the teacher's.

    The student's preprocessor has normalised the images. Where the teacher's mean, standard deviation or channel order
    differ, ``x * std_s + mean_s`` brings pixels back and the teacher's values are applied. Padding is set to the
    teacher's padding value again, or it would no longer be neutral for the teacher.

    Args:
        student (nn.Module): The student's ``data_preprocessor``.
        teacher (nn.Module): The teacher's ``data_preprocessor``.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        mean_s, std_s, order_s = _normalisation(student)
        mean_t, std_t, order_t = _normalisation(teacher)
        self.flip = order_s != order_t
        if self.flip:
            mean_t, std_t = mean_t.flip(0), std_t.flip(0)
        scale, shift = std_s / std_t, (mean_s - mean_t) / std_t
        self.pad_value = float(getattr(teacher, 'pad_value', 0))
        self.same = not self.flip and bool(
            torch.allclose(mean_s, mean_t) and torch.allclose(std_s, std_t)
        )
        self.register_buffer('scale', scale, persistent=False)
        self.register_buffer('shift', shift, persistent=False)

    def forward(self, inputs: Tensor, data_samples: Sequence[Any] | None = None) -> Tensor:
        """``[N, 3, H, W]`` -> ``[N, 3, H, W]``; the same tensor where nothing differs."""
        if self.same:
            return inputs
        if self.scale.device != inputs.device:
            self.to(inputs.device)  # once: it is no part of the model that is moved
        out = inputs * self.scale.view(1, -1, 1, 1) + self.shift.view(1, -1, 1, 1)
        if self.flip:
            out = out.flip(1)
        for image, sample in zip(out, data_samples or (), strict=False):
            height, width = getattr(sample, 'img_shape', inputs.shape[-2:])[:2]
            image[:, height:] = self.pad_value
            image[:, :, width:] = self.pad_value
        return out


def _normalisation(preprocessor: nn.Module) -> tuple[Tensor, Tensor, bool]:
    """(mean, std, whether the network sees RGB) of an mmdet or mmpretrain preprocessor."""
    if getattr(preprocessor, '_enable_normalize', False):
        mean, std = preprocessor.mean.detach(), preprocessor.std.detach()
    else:
        mean, std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    # mmdet says `_channel_conversion`, mmpretrain `to_rgb`; images are read as BGR.
    converts = getattr(preprocessor, '_channel_conversion', getattr(preprocessor, 'to_rgb', False))
    return mean.float().cpu().flatten(), std.float().cpu().flatten(), bool(converts)
