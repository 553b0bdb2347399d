"""ResNet-50 for 32x32 images."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .stage_backbone import FAN_OUT_INIT, Stage, StageBackbone


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolution and a shortcut, four times wider outside."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = 4 * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward_with_preact(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        preact = self.bn3(self.conv3(out)) + self.shortcut(x)
        return F.relu(preact), preact

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_with_preact(x)[0]


@MODELS.register_module()
class CIFARResNet50(StageBackbone):
    """ResNet-50 with a 3x3 stem and no pooling, the ``ResNet50`` teacher of the CIFAR-100 tables.

    It differs from mmpretrain's ``ResNet_CIFAR`` only in its parameter names, which are those of
    the published teacher. Stages at 32x32 input: stem and stage 1 at 32x32, then 16, 8 and 4, with
    64, 256, 512, 1024 and 2048 channels.

    Args:
        out_indices: Stages 0..4 to return, see :class:`StageBackbone`. None: ``(3, 4)``.
        preact: Return the stages before their last ReLU.
        init_cfg: Initialisation, as in mmengine.
    """

    def __init__(
        self,
        out_indices: tuple[int, ...] | None = None,
        preact: bool = False,
        init_cfg: dict | list | tuple | None = FAN_OUT_INIT,
    ) -> None:
        super().__init__((64, 256, 512, 1024, 2048), 2048, out_indices, preact, init_cfg)
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _make_stage(64, 64, 3, stride=1)
        self.layer2 = _make_stage(256, 128, 4, stride=2)
        self.layer3 = _make_stage(512, 256, 6, stride=2)
        self.layer4 = _make_stage(1024, 512, 3, stride=2)

    def forward_stages(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.collect(x, self.layer1, self.layer2, self.layer3, self.layer4)


def _make_stage(in_channels: int, channels: int, blocks: int, stride: int) -> Stage:
    first = Bottleneck(in_channels, channels, stride)
    return Stage(first, *(Bottleneck(4 * channels, channels, 1) for _ in range(blocks - 1)))
