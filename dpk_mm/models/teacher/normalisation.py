"""The batch as the teacher wants it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.logging import print_log
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn

from dpk_mm.errors import UsageError


class Normalisation(NamedTuple):
    """What a preprocessor does with pixels.

    Attributes:
        mean: One value, or one for each channel, in the order in which the network sees the channels.
        std: Likewise.
        swaps: Whether the first and third channel are exchanged.
        pad_value: What stands beside an image, after the normalisation.
    """

    mean: Tensor
    std: Tensor
    swaps: bool
    pad_value: float


def read_normalisation(preprocessor: nn.Module) -> Normalisation | None:
    """The normalisation of a preprocessor of mmengine, mmdet, mmpretrain, mmseg or mmpose; None for another kind."""
    plain = type(preprocessor) is BaseDataPreprocessor
    if not plain and not hasattr(preprocessor, '_enable_normalize'):
        return None
    mean, std = torch.zeros(1), torch.ones(1)
    if getattr(preprocessor, '_enable_normalize', False):
        mean, std = preprocessor.mean.detach(), preprocessor.std.detach()
    # mmengine's and mmdet's, mmseg's, mmpretrain's name for it
    names = ('_channel_conversion', 'channel_conversion', 'to_rgb')
    swaps = any(bool(getattr(preprocessor, name, False)) for name in names)
    pad_value = getattr(preprocessor, 'pad_value', getattr(preprocessor, 'pad_val', 0))
    # mmdet's networks take a number; a value for each channel is that of no stock config
    pad_value = float(pad_value[0] if isinstance(pad_value, Sequence) else pad_value)
    return Normalisation(
        mean.float().cpu().flatten(), std.float().cpu().flatten(), swaps, pad_value
    )


def give_preprocessor(
    teacher: nn.Module, student_preprocessor: nn.Module, cfg: Mapping[str, Any] | nn.Module
) -> None:
    """Gives a teacher without a preprocessor of its own the student's: it sees what the student sees.

    Without one it would see raw pixels, which no network of a zoo was trained on. One that normalises nothing, but was
    given, stays: YOLOX takes raw pixels.

    Args:
        teacher: Its ``data_preprocessor`` is replaced.
        student_preprocessor: The student's.
        cfg: What the config says of the teacher; a built model has none of its own if it has what mmengine or
            mmpretrain fill in.
    """
    own = teacher.data_preprocessor
    if isinstance(cfg, Mapping) and 'cfg_path' not in cfg:
        missing = cfg.get('data_preprocessor') is None
    else:
        missing = _is_default(own)
    if missing and own is not student_preprocessor:
        teacher.data_preprocessor = student_preprocessor
        print_log(
            "model.teacher has no data_preprocessor: it sees the student's images, normalised for the student. Give it "
            'one if it was trained with other values.',
            'current',
            level=logging.INFO,
        )


def _is_default(preprocessor: nn.Module) -> bool:
    if type(preprocessor) is BaseDataPreprocessor:
        return True
    found = read_normalisation(preprocessor)
    return (
        type(preprocessor).__name__ == 'ClsDataPreprocessor'
        and found is not None
        and not preprocessor._enable_normalize
        and not found.swaps
        and found.pad_value == 0
        and preprocessor.pad_size_divisor == 1
    )


class TeacherInput(nn.Module):
    """Turns a batch with the student's normalisation into one with the teacher's.

    The student's preprocessor has normalised the images. Where the teacher's mean, standard deviation or channel order
    differ, ``x * std_s + mean_s`` brings pixels back and the teacher's values are applied. Padding is set to the
    teacher's padding value again, or it would no longer be neutral for the teacher; where the preprocessor does not say
    that ``img_shape`` is that of the image, as mmdet's does, only rows and columns that hold nothing else.

    Args:
        student: The student's ``data_preprocessor``.
        teacher: The teacher's ``data_preprocessor``; the same object where the teacher has none.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        own, given = read_normalisation(student), read_normalisation(teacher)
        if own is None or given is None or student is teacher:
            if student is not teacher:
                unknown = type(student if own is None else teacher).__name__
                print_log(
                    f'The normalisation of a {unknown} is not known: the teacher sees the images of the student as '
                    'they are.',
                    'current',
                    level=logging.WARNING,
                )
            own = given = Normalisation(torch.zeros(1), torch.ones(1), False, 0.0)
        mean_t, std_t = given.mean, given.std
        self.flip = own.swaps != given.swaps
        if self.flip:
            mean_t, std_t = mean_t.flip(0), std_t.flip(0)
        scale, shift = own.std / std_t, (own.mean - mean_t) / std_t
        self.pad_value, self.own_pad_value = given.pad_value, own.pad_value
        self.rescale = not _all_close(own.mean, mean_t) or not _all_close(own.std, std_t)
        self.same = not self.flip and not self.rescale and own.pad_value == given.pad_value
        self.channels = max(len(scale), len(shift))
        self.register_buffer('scale', scale, persistent=False)
        self.register_buffer('shift', shift, persistent=False)

    def forward(self, inputs: Tensor, data_samples: Sequence[Any] | None = None) -> Tensor:
        """``[N, C, H, W]`` -> ``[N, C, H, W]``; the same tensor where nothing differs.

        Raises:
            UsageError: If the images have another number of channels than the means.
        """
        if self.same:
            return inputs
        if self.channels not in (1, inputs.shape[1]):
            raise UsageError(
                f'The images have {inputs.shape[1]} channels, but data_preprocessor of student or teacher has a mean '
                f'of {self.channels} values: give means of {inputs.shape[1]} values or of one.'
            )
        if self.scale.device != inputs.device:
            self.to(inputs.device)  # once: it is no part of the model that is moved
        out = inputs
        if self.rescale:
            out = inputs * self.scale.view(1, -1, 1, 1) + self.shift.view(1, -1, 1, 1)
        if self.flip and inputs.shape[1] == 3:  # as the preprocessors do: a grey image has no order
            out = out.flip(1)
        if out is inputs:
            out = inputs.clone()  # the student still reads it
        for image, seen, sample in zip(out, inputs, data_samples or (), strict=False):
            self._pad(image, seen, sample)
        return out

    def _pad(self, image: Tensor, seen: Tensor, sample: Any) -> None:
        """Sets the padding of an image ``[C, H, W]``, which was ``seen`` by the student, to the teacher's value."""
        height, width = getattr(sample, 'img_shape', image.shape[-2:])[:2]
        below, beside = slice(height, None), slice(width, None)
        if hasattr(sample, 'batch_input_shape'):
            # of mmdet's preprocessor, whose img_shape is that of the image
            image[:, below] = self.pad_value
            image[:, :, beside] = self.pad_value
            return
        # torchvision's transforms leave the img_shape of the file: what lies beyond it may be pixels
        padding = (seen == self.own_pad_value).all(0)
        image[:, below].masked_fill_(padding[below].all(1, keepdim=True), self.pad_value)
        image[:, :, beside].masked_fill_(padding[:, beside].all(0), self.pad_value)


def _all_close(a: Tensor, b: Tensor) -> bool:
    if len(a) != len(b) and 1 not in (len(a), len(b)):
        return False
    return torch.allclose(*torch.broadcast_tensors(a, b))
