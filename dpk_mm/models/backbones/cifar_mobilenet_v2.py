"""MobileNetV2 at half width for 32x32 images."""

from __future__ import annotations

from mmengine.registry import MODELS
from torch import Tensor, nn

from .stage_backbone import FAN_OUT_INIT, StageBackbone


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise and linear 1x1 projection."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.use_shortcut = stride == 1 and in_channels == channels
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_shortcut else self.conv(x)


@MODELS.register_module()
class CIFARMobileNetV2(StageBackbone):
    """The student ``MobileNetV2`` of the CIFAR-100 tables: width 0.5, expansion 6, ReLU.

    Stages at 32x32 input: stem 16 channels at 16x16, then 12 at 16x16, 16 at 8x8, 48 at 4x4 and
    160 at 2x2. They end in linear projections, so there is no pre-activation to ask for. The
    embedding is the 1x1 convolution to 1280 channels that follows stage 4.

    Args:
        out_indices: Stages 0..4 to return, see :class:`StageBackbone`. None: ``(3, 4)``.
        init_cfg: Initialisation, as in mmengine.
    """

    # (expansion, channels, blocks, stride of the first block, ends a stage)
    groups = (
        (1, 8, 1, 1, False),
        (6, 12, 2, 1, True),
        (6, 16, 3, 2, True),
        (6, 32, 4, 2, False),
        (6, 48, 3, 1, True),
        (6, 80, 3, 2, False),
        (6, 160, 1, 1, True),
    )

    def __init__(
        self,
        out_indices: tuple[int, ...] | None = None,
        init_cfg: dict | list | tuple | None = FAN_OUT_INIT,
    ) -> None:
        super().__init__((16, 12, 16, 48, 160), 1280, out_indices, init_cfg=init_cfg)
        self.conv1 = _conv_bn_relu(3, 16, kernel=3, stride=2)
        self.blocks = nn.ModuleList()
        in_channels = 16
        for expansion, channels, blocks, stride, _ in self.groups:
            group = nn.Sequential()
            for index in range(blocks):
                first_stride = stride if index == 0 else 1
                group.append(InvertedResidual(in_channels, channels, first_stride, expansion))
                in_channels = channels
            self.blocks.append(group)
        self.conv2 = _conv_bn_relu(in_channels, 1280, kernel=1, stride=1)

    def forward_stages(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        x = self.conv1(x)
        stages = [x]
        for group, (*_, ends_stage) in zip(self.blocks, self.groups, strict=True):
            x = group(x)
            if ends_stage:
                stages.append(x)
        return stages, self.conv2(x)


def _conv_bn_relu(in_channels: int, channels: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )
