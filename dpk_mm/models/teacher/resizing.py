"""A teacher that sees the images at another resolution than the student."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from dpk_mm.errors import first_few

from ..recorders import module_recorders
from .input_size import read_size
from .resized_samples import resized_samples


class TeacherResizing:
    """Resizes the images for a teacher, and its maps back to the grid that they would have on the student's images.

    With the images of side a resized to b, a map of n cells becomes one of ``round(n * a / b)``. Tokens, ``[N, L, C]``,
    and logits stay as they are.

    Args:
        size: (height, width) that the teacher sees, or one number for both.

    Raises:
        UsageError: (a ValueError) If it is neither.
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = read_size(size, 'model.teacher_input_size')
        self._said = False

    def say_deliveries(self, names: Sequence[str]) -> None:
        """Warns of what a detector's teacher hands on to the student's functions as it is.

        Args:
            names: Of the deliveries, none for no warning.
        """
        if names:
            print_log(
                f'model.teacher_input_size: what the distill_deliveries {first_few(names)} hand on is that of the '
                "teacher's images and not scaled back: boxes and targets among it are wrong for the student's.",
                'current',
                level=logging.WARNING,
            )

    def images(self, inputs: Tensor) -> Tensor:
        """``[N, C, H, W]`` -> ``[N, C, *size]``, bilinear."""
        if tuple(inputs.shape[-2:]) == self.size:
            return inputs
        if not self._said:
            self._said = True
            print_log(
                f'The images, {inputs.shape[-2]}x{inputs.shape[-1]}, are resized to {self.size[0]}x{self.size[1]} for '
                'the teacher, and its maps back (said once).',
                'current',
                level=logging.INFO,
            )
        return F.interpolate(
            inputs, size=self.size, mode='bilinear', align_corners=False, antialias=True
        )

    def samples(self, samples: Sequence[Any] | None, image: Sequence[int]) -> Sequence[Any] | None:
        """Copies of the data samples with the ground truth of the resized images.

        Args:
            samples: Of the student's images; they stay as they are.
            image: (height, width) of the student's images.

        Raises:
            UsageError: If something of them cannot be resized, see
                :func:`~dpk_mm.models.teacher.resized_samples.resized_samples`.
        """
        return resized_samples(samples, (image[0], image[1]), self.size)

    def maps(self, recorders: Any, image: Sequence[int]) -> None:
        """Resizes the recorded maps, in place of the records.

        Args:
            recorders: The teacher's, a ``RecorderManager``.
            image: (height, width) of the student's images.
        """
        for recorder in recorders.recorders.values():
            for leaf in module_recorders(recorder):
                leaf.data_buffer[:] = [self.back(record, image) for record in leaf.data_buffer]

    def back(self, record: Any, image: Sequence[int]) -> Any:
        """Resizes the maps of a record, a tensor or some of them; what is no map stays.

        Args:
            record: Of the teacher.
            image: (height, width) of the student's images.
        """
        if tuple(image) == self.size:
            return record
        if isinstance(record, (list, tuple)):
            return type(record)(self.back(item, image) for item in record)
        if not isinstance(record, Tensor) or record.ndim != 4:
            return record
        cells = [
            max(1, round(n * own / given))
            for n, own, given in zip(record.shape[2:], image, self.size, strict=True)
        ]
        return F.interpolate(record, size=cells, mode='bilinear', align_corners=False)

    def predict(self, teacher: nn.Module, inputs: Tensor, samples: Sequence[Any] | None) -> Any:
        """What a teacher predicts on the resized images.

        Args:
            teacher: Called with ``mode='predict'``.
            inputs: ``[N, C, H, W]``, normalised for the teacher and not resized.
            samples: Of these images; they get the predictions, in the coordinates of the images as they were read.

        Returns:
            The samples; what the teacher gives itself where they are no data samples.
        """
        image = inputs.shape[-2:]
        own = [s for s in samples or () if isinstance(s, BaseDataElement)]
        bare = [_without_truth(sample) for sample in own]
        found = teacher(self.images(inputs), self.samples(bare, image) or None, mode='predict')
        if not own:
            return found
        for sample, predicted in zip(own, found, strict=True):
            for name, value in predicted.items():
                if name.startswith('pred_'):
                    setattr(sample, name, value)
        return own


def _without_truth(sample: BaseDataElement) -> BaseDataElement:
    """A copy without ground truth, which may be in other coordinates, as behind a ``Resize``, or cannot be resized."""
    bare = type(sample)(metainfo=sample.metainfo)
    truth = ('gt_', 'ignored_')
    bare.set_data({name: v for name, v in sample.items() if not name.startswith(truth)})
    return bare
