"""Wide ResNets 16-2, 40-1 and 40-2 for 32x32 images."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .stage_backbone import FAN_OUT_INIT, StageBackbone, pick_arch


class PreActBlock(nn.Module):
    """BN, ReLU, 3x3 convolution, twice, and a shortcut; nothing follows the sum.

    Where the width changes, the 1x1 shortcut reads the activated input, else the raw input is
    added.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.convShortcut = None  # spelt as in the published weights
        if in_channels != channels:
            self.convShortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor, normalized: Tensor | None = None) -> Tensor:
        activated = F.relu(self.bn1(x) if normalized is None else normalized)
        out = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        return out + (x if self.convShortcut is None else self.convShortcut(activated))


class WideStage(nn.Module):
    """Blocks of one resolution.

    ``normalized`` is the output of the first block's ``bn1`` where the caller has it already: it
    is the pre-activation of the stage before, and running that BN twice in a training step would
    update its statistics twice (the published code does so).
    """

    def __init__(self, in_channels: int, channels: int, blocks: int, stride: int) -> None:
        super().__init__()
        first = PreActBlock(in_channels, channels, stride)
        rest = (PreActBlock(channels, channels, 1) for _ in range(blocks - 1))
        self.layer = nn.Sequential(first, *rest)

    def forward(self, x: Tensor, normalized: Tensor | None = None) -> Tensor:
        first, *rest = self.layer
        x = first(x, normalized)
        for block in rest:
            x = block(x)
        return x


@MODELS.register_module()
class CIFARWideResNet(StageBackbone):
    """Wide ResNet (Zagoruyko & Komodakis 2016) without dropout, as in the published teachers.

    Stages at 32x32 input: stem and stage 1 at 32x32, stage 2 at 16x16, stage 3 at 8x8. A stage is
    the sum that ends it, without BN or ReLU; the embedding is ReLU(BN(stage 3)). With
    ``preact=True`` a stage is given after the BN that follows it.

    Args:
        arch: ``'wrn_16_2'``, ``'wrn_40_1'`` or ``'wrn_40_2'`` (depth, widening).
        out_indices: Stages 0..3 to return, see :class:`StageBackbone`. None: ``(2, 3)``.
        preact: Return the stages after the BN that follows them.
        init_cfg: Initialisation, as in mmengine.

    Raises:
        ValueError: If ``arch`` or ``out_indices`` is unknown.
    """

    # arch: (depth = 6 n + 4, widening)
    archs = {'wrn_16_2': (16, 2), 'wrn_40_1': (40, 1), 'wrn_40_2': (40, 2)}

    def __init__(
        self,
        arch: str,
        out_indices: tuple[int, ...] | None = None,
        preact: bool = False,
        init_cfg: dict | list | tuple | None = FAN_OUT_INIT,
    ) -> None:
        depth, widening = pick_arch(arch, self.archs, type(self).__name__)
        widths = (16, 16 * widening, 32 * widening, 64 * widening)
        super().__init__(widths, widths[-1], out_indices, preact, init_cfg)
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.block1 = WideStage(widths[0], widths[1], blocks, stride=1)
        self.block2 = WideStage(widths[1], widths[2], blocks, stride=2)
        self.block3 = WideStage(widths[2], widths[3], blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(widths[3])

    def forward_stages(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        x = self.conv1(x)
        sums, norms = [x], [x]  # a stage's sum, and what the BN after it makes of it
        normalized = None
        for stage, next_bn in (
            (self.block1, self.block2.layer[0].bn1),
            (self.block2, self.block3.layer[0].bn1),
            (self.block3, self.bn1),
        ):
            x = stage(x, normalized)
            normalized = next_bn(x)
            sums.append(x)
            norms.append(normalized)
        return (norms if self.preact else sums), F.relu(normalized)
