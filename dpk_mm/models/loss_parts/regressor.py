"""What brings a student's feature to the size of a teacher's."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.dist import get_world_size
from torch import Tensor, nn

from ...errors import UsageError
from .feature_stage import FeatureStage


def regressor(
    stage: FeatureStage, owner: str, norm: bool = True, relu: bool = True
) -> nn.Sequential:
    """A convolution from the student's channels and size to the teacher's, with batch normalisation and ReLU.

    The kernel follows from the stage's ``scale``: 1x1 for maps of one size, 3x3 of stride 2 where the student's is
    twice as large, a 4x4 transposed one of stride 2 where it is half as large.

    Raises:
        UsageError: (a ValueError) If ``scale`` is another one.
    """
    own, given = int(stage.student_channels or 0), int(stage.teacher_channels or 0)
    conv: nn.Module
    if stage.scale == 1:
        conv = nn.Conv2d(own, given, 1)
    elif stage.scale == 2:
        conv = nn.Conv2d(own, given, 3, stride=2, padding=1)
    elif stage.scale == 0.5:
        conv = nn.ConvTranspose2d(own, given, 4, stride=2, padding=1)
    else:
        raise UsageError(
            f'{owner} has regressors for scale=1, 2 and 0.5, but {stage.name} has scale={stage.scale:g}; compare '
            'other stages.'
        )
    layers = [conv]
    if norm:
        layers.append(nn.BatchNorm2d(given))
    if relu:
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def connector(stage: FeatureStage) -> nn.Sequential:
    """A 1x1 convolution without bias and batch normalisation: ``[N, C_s, H, W]`` to ``[N, C_t, H, W]``."""
    own, given = int(stage.student_channels or 0), int(stage.teacher_channels or 0)
    return nn.Sequential(nn.Conv2d(own, given, 1, bias=False), nn.BatchNorm2d(given))


def apply_layers(layers: nn.Module, x: Tensor) -> Tensor:
    """The layers on ``x``, in the precision of their parameters, and the result in that of ``x``."""
    parameter = next(layers.parameters(), None)
    return layers(x if parameter is None else x.to(parameter.dtype)).to(x.dtype)


def pool_to_smaller(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps in the size of the smaller one, the larger one averaged."""
    size = [min(a, b) for a, b in zip(student.shape[2:], teacher.shape[2:], strict=True)]
    return pool_to(student, size), pool_to(teacher, size)


def pool_to(x: Tensor, size: list[int]) -> Tensor:
    """``[N, C, H, W]`` averaged to a size; itself where it has it."""
    return x if list(x.shape[2:]) == size else F.adaptive_avg_pool2d(x, size)


def check_same_size(student: Tensor, teacher: Tensor, stage: FeatureStage, owner: str) -> None:
    """Refuses maps that differ after the regressor.

    Raises:
        UsageError: (a ValueError) If they do.
    """
    if student.shape != teacher.shape:
        raise UsageError(
            f"{owner} has to compare maps of one size at {stage.name}, but the student's is "
            f"{list(student.shape)} after its layers and the teacher's {list(teacher.shape)}; use images whose sides "
            'the strides divide, or compare other stages.'
        )


def check_batch_norm(layers: nn.Module, values: int, owner: str) -> None:
    """Refuses what batch normalisation cannot normalise in training: a single value for each channel.

    Args:
        layers: With batch normalisation or without.
        values: How many values of each channel it is given.
        owner: The loss, the subject of the sentence.

    Raises:
        UsageError: (a ValueError) If there is one, and a layer in training mode that does not count those of other
            ranks, too.
    """
    if values > 1:
        return
    several = get_world_size() > 1
    for layer in layers.modules():
        if (
            isinstance(layer, nn.modules.batchnorm._BatchNorm)
            and layer.training
            and not (several and isinstance(layer, nn.SyncBatchNorm))
        ):
            raise UsageError(
                f'{owner} has batch normalisation, which needs more than one value for each channel in training, but '
                'found a batch of one image and one cell; raise train_dataloader.batch_size, or set drop_last=True '
                'there for the last batch of a pass.'
            )
