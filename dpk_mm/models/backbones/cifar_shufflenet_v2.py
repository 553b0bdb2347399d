"""ShuffleNetV2 for 32x32 images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .stage_backbone import Stage, StageBackbone


class SplitUnit(nn.Module):
    """Half of the channels pass through, the other half is convolved; then both are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.shuffle = nn.ChannelShuffle(2)

    def forward_with_preact(self, x: Tensor) -> tuple[Tensor, Tensor]:
        passed, branch = x.chunk(2, dim=1)
        branch = F.relu(self.bn1(self.conv1(branch)))
        branch = self.bn2(self.conv2(branch))
        branch = self.bn3(self.conv3(branch))
        out = self.shuffle(torch.cat([passed, F.relu(branch)], dim=1))
        # As published: the pre-activation keeps the order of the channels before the shuffle.
        return out, torch.cat([passed, branch], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_with_preact(x)[0]


class DownUnit(nn.Module):
    """Halves the resolution: two convolved branches of the whole input, joined and shuffled."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(
            in_channels, in_channels, 3, 2, padding=1, groups=in_channels, bias=False
        )
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, 2, padding=1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = F.relu(self.bn3(self.conv3(x)))
        right = F.relu(self.bn5(self.conv5(self.bn4(self.conv4(right)))))
        return self.shuffle(torch.cat([left, right], dim=1))


@MODELS.register_module()
class CIFARShuffleNetV2(StageBackbone):
    """The student ``ShuffleV2`` of the CIFAR-100 tables: width 1, a 1x1 stem without pooling.

    Stages at 32x32 input: stem 24 channels at 32x32, then 116 at 16x16, 232 at 8x8, 464 at 4x4.
    The embedding is the 1x1 convolution to 1024 channels that follows stage 3.

    Args:
        out_indices: Stages 0..3 to return, see :class:`StageBackbone`. None: ``(2, 3)``.
        preact: Return the stages before their last ReLU (and before the last channel shuffle).
        init_cfg: Initialisation, as in mmengine. None keeps PyTorch's, as the published code does.
    """

    def __init__(
        self,
        out_indices: tuple[int, ...] | None = None,
        preact: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__((24, 116, 232, 464), 1024, out_indices, preact, init_cfg)
        self.conv1 = nn.Conv2d(3, 24, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.layer1 = _make_stage(24, 116, 3)
        self.layer2 = _make_stage(116, 232, 7)
        self.layer3 = _make_stage(232, 464, 3)
        self.conv2 = nn.Conv2d(464, 1024, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1024)

    def forward_stages(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        x = F.relu(self.bn1(self.conv1(x)))
        stages, x = self.collect(x, self.layer1, self.layer2, self.layer3)
        return stages, F.relu(self.bn2(self.conv2(x)))


def _make_stage(in_channels: int, channels: int, units: int) -> Stage:
    return Stage(DownUnit(in_channels, channels), *(SplitUnit(channels) for _ in range(units)))
