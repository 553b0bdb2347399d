"""ResNet-20/32/56/110 and the four times wider 8x4/32x4 for 32x32 images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .stage_backbone import FAN_OUT_INIT, Stage, StageBackbone, pick_arch


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, added before the last ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward_with_preact(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        preact = out + (x if self.downsample is None else self.downsample(x))
        return F.relu(preact), preact

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_with_preact(x)[0]


@MODELS.register_module()
class CIFARResNet(StageBackbone):
    """The CIFAR ResNets that CRD, ReviewKD, DKD and DPK compare on (He et al. 2016, sec. 4.2).

    Stages at 32x32 input: stem and stage 1 at 32x32, stage 2 at 16x16, stage 3 at 8x8. Unlike
    He et al., the shortcut where the width changes is a 1x1 convolution, as in the published
    teachers, whose parameter names this class has.

    Args:
        arch: ``'resnet20'``, ``'resnet32'``, ``'resnet56'``, ``'resnet110'`` (widths 16, 16, 32,
            64), ``'resnet8x4'`` or ``'resnet32x4'`` (widths 32, 64, 128, 256); or one of your own,
            ``dict(depth=8, widths=(8, 8, 16, 32), strides=(2, 2, 2))``: depth 6 n + 2, channels of
            the stem and the three stages, and strides of the stages, (1, 2, 2) by default.
        out_indices: Stages 0..3 to return, see :class:`StageBackbone`. None: ``(2, 3)``.
        preact: Return the stages before their last ReLU.
        init_cfg: Initialisation, as in mmengine.

    Raises:
        ValueError: If ``arch`` or ``out_indices`` is unknown, or an ``arch`` of your own is malformed.
    """

    # arch: (depth = 6 n + 2, widths)
    archs = {
        'resnet20': (20, (16, 16, 32, 64)),
        'resnet32': (32, (16, 16, 32, 64)),
        'resnet56': (56, (16, 16, 32, 64)),
        'resnet110': (110, (16, 16, 32, 64)),
        'resnet8x4': (8, (32, 64, 128, 256)),
        'resnet32x4': (32, (32, 64, 128, 256)),
    }

    def __init__(
        self,
        arch: str | Mapping[str, Any],
        out_indices: tuple[int, ...] | None = None,
        preact: bool = False,
        init_cfg: dict | list | tuple | None = FAN_OUT_INIT,
    ) -> None:
        strides: Sequence[int] = (1, 2, 2)
        if isinstance(arch, Mapping):
            depth, widths, strides = _read_arch(arch)
        else:
            depth, widths = pick_arch(arch, self.archs, type(self).__name__)
        super().__init__(widths, widths[-1], out_indices, preact, init_cfg)
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        blocks = (depth - 2) // 6
        self.layer1 = _make_stage(widths[0], widths[1], blocks, strides[0])
        self.layer2 = _make_stage(widths[1], widths[2], blocks, strides[1])
        self.layer3 = _make_stage(widths[2], widths[3], blocks, strides[2])

    def forward_stages(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.collect(x, self.layer1, self.layer2, self.layer3)


def _read_arch(arch: Mapping[str, Any]) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Depth, widths and strides of an architecture that is no published one."""
    found = dict(strides=(1, 2, 2), **arch) if 'strides' not in arch else dict(arch)
    if set(found) != {'depth', 'widths', 'strides'}:
        raise ValueError(
            f'CIFARResNet: arch has the keys {", ".join(arch)}, but an own one takes depth, widths and, if not '
            '(1, 2, 2), strides.'
        )
    depth, widths, strides = found['depth'], tuple(found['widths']), tuple(found['strides'])
    if depth < 8 or (depth - 2) % 6 or len(widths) != 4 or len(strides) != 3:
        raise ValueError(
            f'CIFARResNet: arch is {dict(arch)}, but depth must be 8, 14, 20, ..., with 4 widths (stem and three '
            'stages) and 3 strides.'
        )
    return depth, widths, strides


def _make_stage(in_channels: int, channels: int, blocks: int, stride: int) -> Stage:
    first = BasicBlock(in_channels, channels, stride)
    return Stage(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))
