"""CIFAR-100 networks of the distillation literature, MobileNetV1, and their published weights."""

from .cifar_mobilenet_v2 import CIFARMobileNetV2
from .cifar_resnet import CIFARResNet
from .cifar_resnet50 import CIFARResNet50
from .cifar_shufflenet_v1 import CIFARShuffleNetV1
from .cifar_shufflenet_v2 import CIFARShuffleNetV2
from .cifar_vgg import CIFARVGG
from .cifar_wide_resnet import CIFARWideResNet
from .mobilenet_v1 import MobileNetV1
from .published import PUBLISHED_ARCHS, convert_cifar_checkpoint, revise_published_keys
from .stage_backbone import StageBackbone

__all__ = [
    'PUBLISHED_ARCHS',
    'CIFARMobileNetV2',
    'CIFARResNet',
    'CIFARResNet50',
    'CIFARShuffleNetV1',
    'CIFARShuffleNetV2',
    'CIFARVGG',
    'CIFARWideResNet',
    'MobileNetV1',
    'StageBackbone',
    'convert_cifar_checkpoint',
    'revise_published_keys',
]
