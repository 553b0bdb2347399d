"""MobileNetV1 for ImageNet, which mmpretrain does not have."""

from __future__ import annotations

from mmengine.registry import MODELS
from torch import Tensor, nn

from .stage_backbone import FAN_OUT_INIT, StageBackbone


@MODELS.register_module()
class MobileNetV1(StageBackbone):
    """MobileNetV1 (Howard et al. 2017) at width 1, the student of the ResNet-50 ImageNet pair.

    A 3x3 convolution to 32 channels, then 13 depthwise separable ones to 64, 128, 128, 256, 256,
    six times 512, and twice 1024; 4,231,976 parameters with the classifier of 1000 classes. Stages
    at 224x224 input: 128 channels at 56x56, 256 at 28, 512 at 14, 1024 at 7.

    The parameters are named as in the weights that the distillation literature publishes
    (``model.0.0.weight`` ...), so these load through ``revise_published_keys``.

    Args:
        out_indices: Stages 0..3 to return, see :class:`StageBackbone`. None: ``(2, 3)``.
        preact: Return the stages before their last ReLU.
        init_cfg: Initialisation, as in mmengine.

    Raises:
        ValueError: If ``out_indices`` is unknown.
    """

    # (channels, stride, ends a stage)
    layers = (
        (64, 1, False),
        (128, 2, False),
        (128, 1, True),
        (256, 2, False),
        (256, 1, True),
        (512, 2, False),
        (512, 1, False),
        (512, 1, False),
        (512, 1, False),
        (512, 1, False),
        (512, 1, True),
        (1024, 2, False),
        (1024, 1, True),
    )

    def __init__(
        self,
        out_indices: tuple[int, ...] | None = None,
        preact: bool = False,
        init_cfg: dict | list | tuple | None = FAN_OUT_INIT,
    ) -> None:
        super().__init__((128, 256, 512, 1024), 1024, out_indices, preact, init_cfg)
        self.model = nn.Sequential(nn.Sequential(*_conv_bn_relu(3, 32, kernel=3, stride=2)))
        in_channels = 32
        for channels, stride, _ in self.layers:
            self.model.append(
                nn.Sequential(
                    *_conv_bn_relu(in_channels, in_channels, 3, stride, groups=in_channels),
                    *_conv_bn_relu(in_channels, channels, 1, 1),
                )
            )
            in_channels = channels

    def forward_stages(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        stem, *separable = self.model
        x = stem(x)
        stages = []
        for layer, (*_, ends_stage) in zip(separable, self.layers, strict=True):
            if ends_stage and self.preact:
                *body, relu = layer
                for module in body:
                    x = module(x)
                stages.append(x)
                x = relu(x)
            else:
                x = layer(x)
                if ends_stage:
                    stages.append(x)
        return stages, x


def _conv_bn_relu(
    in_channels: int, channels: int, kernel: int, stride: int, groups: int = 1
) -> list[nn.Module]:
    return [
        nn.Conv2d(
            in_channels, channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        ),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    ]
