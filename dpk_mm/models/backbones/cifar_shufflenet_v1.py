"""ShuffleNetV1 for 32x32 images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .stage_backbone import Stage, StageBackbone


class ShuffleUnit(nn.Module):
    """Grouped 1x1, channel shuffle, 3x3 depthwise, grouped 1x1; added to or joined with the input.

    The published network has a ReLU after the depthwise convolution, which Zhang et al. (2018,
    Fig. 2) do not.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output. With stride 2 the averaged input makes up
            ``in_channels`` of them, so the last convolution gives only the rest.
        stride: 1 or 2.
        groups: Groups of the two 1x1 convolutions.
        first_groups: Groups of the first one; 1 right after the stem.
    """

    def __init__(
        self, in_channels: int, channels: int, stride: int, groups: int, first_groups: int
    ) -> None:
        super().__init__()
        self.stride = stride
        channels = channels - in_channels if stride == 2 else channels
        hidden = channels // 4
        self.conv1 = nn.Conv2d(in_channels, hidden, 1, groups=first_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.shuffle = nn.ChannelShuffle(first_groups)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, channels, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward_with_preact(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self.shuffle(F.relu(self.bn1(self.conv1(x))))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.stride == 2:
            preact = torch.cat([out, F.avg_pool2d(x, 3, stride=2, padding=1)], dim=1)
        else:
            preact = out + x
        return F.relu(preact), preact

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_with_preact(x)[0]


@MODELS.register_module()
class CIFARShuffleNetV1(StageBackbone):
    """The student ``ShuffleV1`` of the CIFAR-100 tables: 3 groups, a 1x1 stem without pooling.

    Stages at 32x32 input: stem 24 channels at 32x32, then 240 at 16x16, 480 at 8x8, 960 at 4x4.

    Args:
        out_indices: Stages 0..3 to return, see :class:`StageBackbone`. None: ``(2, 3)``.
        preact: Return the stages before their last ReLU.
        init_cfg: Initialisation, as in mmengine. None keeps PyTorch's, as the published code does.
    """

    def __init__(
        self,
        out_indices: tuple[int, ...] | None = None,
        preact: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__((24, 240, 480, 960), 960, out_indices, preact, init_cfg)
        self.conv1 = nn.Conv2d(3, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.layer1 = _make_stage(24, 240, 4, first_groups=1)
        self.layer2 = _make_stage(240, 480, 8)
        self.layer3 = _make_stage(480, 960, 4)

    def forward_stages(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.collect(x, self.layer1, self.layer2, self.layer3)


def _make_stage(in_channels: int, channels: int, units: int, first_groups: int = 3) -> Stage:
    first = ShuffleUnit(in_channels, channels, 2, groups=3, first_groups=first_groups)
    rest = (ShuffleUnit(channels, channels, 1, groups=3, first_groups=3) for _ in range(units - 1))
    return Stage(first, *rest)
