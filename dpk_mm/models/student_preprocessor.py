"""One data preprocessor for what student and teacher both see."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmrazor.registry import MODELS
from torch import nn

from dpk_mm.errors import UsageError

_PADDING = ('pad_size_divisor', 'pad_value', 'pad_mask', 'mask_pad_value', 'pad_seg')


def student_preprocessor(
    given: Mapping[str, Any] | nn.Module | None, student: BaseModel
) -> nn.Module:
    """The preprocessor of a distillation: the student's, with the settings that the algorithm was given.

    The Runner hands the ``data_preprocessor`` at the top of a config to the algorithm. In a stock config of mmpretrain
    it is meant for a classifier, which fills in what it lacks: its ``type``, and the batch augmentations of
    ``train_cfg``. The same is filled in here, from the preprocessor that the student has built; what ``given`` says
    itself stays. The student then gets the result as its own, so there is one, and Mixup is applied once.

    Args:
        given: The ``data_preprocessor`` of the algorithm, or None.
        student: The student; its ``data_preprocessor`` is replaced.

    Raises:
        UsageError: If ``given`` has no type and the student's class fills in none.
    """
    own = student.data_preprocessor
    if given is None:
        return own
    result = given
    if isinstance(given, Mapping):
        settings = dict(given)
        if 'type' not in settings:
            if type(own) is BaseDataPreprocessor:
                raise UsageError(
                    f'data_preprocessor has no type ({", ".join(settings) or "it is empty"}), and a '
                    f"{type(student).__name__} fills in none: add one, such as type='mmdet.DetDataPreprocessor'."
                )
            settings['type'] = type(own)
        result = MODELS.build(settings)
        if type(result) is type(own):
            _fill_batch_augments(result, settings, own)
    differing = [] if result is own else _differing(result, own)
    if differing:
        print_log(
            'data_preprocessor of the distillation and model.architecture.data_preprocessor differ in '
            f'{", ".join(differing)}; the former is used for the student as well.',
            'current',
            level=logging.WARNING,
        )
    student.data_preprocessor = result
    return result


def _fill_batch_augments(
    result: nn.Module, settings: Mapping[str, Any], own: BaseDataPreprocessor
) -> None:
    """mmpretrain's classifiers put ``train_cfg`` there; mmdet's preprocessors are complete by themselves."""
    if not hasattr(result, 'to_onehot'):
        return
    if 'batch_augments' not in settings and own.batch_augments is not None:
        result.batch_augments = own.batch_augments
        result.to_onehot = True
    if result.num_classes is None:
        result.num_classes = own.num_classes


def _differing(result: nn.Module, own: nn.Module) -> list[str]:
    """Settings in which both differ, where the student's own was written out: it normalises then."""
    if not getattr(own, '_enable_normalize', False):
        return []
    found = [] if _same_pixels(result, own) else ['mean, std or channel order']
    return found + [n for n in _PADDING if getattr(result, n, None) != getattr(own, n, None)]


def _same_pixels(result: nn.Module, own: nn.Module) -> bool:
    """Whether both normalise alike; the student's own does."""
    if not getattr(result, '_enable_normalize', False):
        return False
    for name in ('mean', 'std'):
        a, b = (getattr(side, name).flatten().float() for side in (result, own))
        if a.numel() not in (1, b.numel()) and b.numel() != 1:
            return False
        if not torch.allclose(*torch.broadcast_tensors(a.cpu(), b.cpu())):
            return False
    names = ('_channel_conversion', 'to_rgb')
    return [getattr(result, n, None) for n in names] == [getattr(own, n, None) for n in names]
