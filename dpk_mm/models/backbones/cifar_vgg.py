"""VGG-8 and VGG-13 for 32x32 images."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from .stage_backbone import FAN_OUT_INIT, StageBackbone, pick_arch


@MODELS.register_module()
class CIFARVGG(StageBackbone):
    """VGG with batch normalisation and one linear classifier, as in the published teachers.

    Stages at 32x32 input: 64 channels at 32x32, 128 at 16, 256 at 8, 512 at 4, and 512 at 4 again
    (a 2x2 max-pool precedes stages 1, 2 and 3).

    Args:
        arch: ``'vgg8'`` (one convolution a stage) or ``'vgg13'`` (two).
        out_indices: Stages 0..4 to return, see :class:`StageBackbone`. None: ``(2, 4)``, the last
            two resolutions; stages 3 and 4 have the same shape, and DPK's authors distil 2 and 4.
        preact: Return the stages before their last ReLU.
        init_cfg: Initialisation, as in mmengine.

    Raises:
        ValueError: If ``arch`` or ``out_indices`` is unknown.
    """

    archs = {'vgg8': 1, 'vgg13': 2}  # arch: convolutions a stage
    widths = (64, 128, 256, 512, 512)

    def __init__(
        self,
        arch: str,
        out_indices: tuple[int, ...] | None = None,
        preact: bool = False,
        init_cfg: dict | list | tuple | None = FAN_OUT_INIT,
    ) -> None:
        convs = pick_arch(arch, self.archs, type(self).__name__)
        out_indices = (2, 4) if out_indices is None else out_indices
        super().__init__(self.widths, self.widths[-1], out_indices, preact, init_cfg)
        for index, width in enumerate(self.widths):
            in_channels = self.widths[index - 1] if index else 3
            setattr(self, f'block{index}', _make_block(in_channels, width, convs))

    def forward_stages(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        stages = []
        for index in range(len(self.widths)):
            if index in (1, 2, 3):
                x = F.max_pool2d(x, 2)
            preact = getattr(self, f'block{index}')(x)
            x = F.relu(preact)
            stages.append(preact if self.preact and index else x)
        return stages, x


def _make_block(in_channels: int, channels: int, convs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(convs):
        layers += [
            nn.Conv2d(in_channels if index == 0 else channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
    # The last ReLU is applied by the caller, who may need the value before it.
    return nn.Sequential(*layers[:-1])
