"""Loads the CIFAR-100 teachers that the distillation literature shares, as they are published.

The backbones here carry the published parameter names, so a published file differs from an
``ImageClassifier`` checkpoint only in a prefix and in the name of the classifier.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from .stage_backbone import StageBackbone

#: The published names of the networks, and the backbone that each of them is.
PUBLISHED_ARCHS: dict[str, dict[str, str]] = {
    **{
        name: dict(type='CIFARResNet', arch=name)
        for name in ('resnet20', 'resnet32', 'resnet56', 'resnet110', 'resnet8x4', 'resnet32x4')
    },
    **{
        name: dict(type='CIFARWideResNet', arch=name)
        for name in ('wrn_16_2', 'wrn_40_1', 'wrn_40_2')
    },
    **{name: dict(type='CIFARVGG', arch=name) for name in ('vgg8', 'vgg13')},
    'MobileNetV2': dict(type='CIFARMobileNetV2'),
    'ShuffleV1': dict(type='CIFARShuffleNetV1'),
    'ShuffleV2': dict(type='CIFARShuffleNetV2'),
    'ResNet50': dict(type='CIFARResNet50'),
    'MobileNetV1': dict(type='MobileNetV1'),
}

# Under which key the files of the different code bases keep the weights.
_CONTAINERS = ('state_dict', 'model', 'net')
# What they call the classifier.
_CLASSIFIERS = ('fc', 'linear', 'classifier', 'classifier.0')
# A key that starts so belongs to an OpenMMLab model, not to a published file.
_OPENMMLAB_PREFIXES = ('backbone.', 'architecture.', 'distiller.')
_SHOWN = 3  # keys of each kind that an error lists

Shapes = dict[str, tuple[int, ...]]


def convert_cifar_checkpoint(
    checkpoint: Mapping[str, Any], arch: str | None = None
) -> dict[str, Tensor]:
    """Turns a published checkpoint into the weights of an mmpretrain ``ImageClassifier``.

    Args:
        checkpoint: What the file holds: ``{'model': weights, ...}``, ``{'state_dict': ...}``,
            ``{'net': ...}`` or the weights themselves, with or without ``module.`` before each.
        arch: Published name of the network, a key of ``PUBLISHED_ARCHS``. None recognises it.

    Returns:
        Weights by name: ``backbone.*`` as in the file, and ``head.fc.weight``, ``head.fc.bias``.

    Raises:
        ValueError: If ``arch`` is unknown, or the weights are not exactly those of ``arch``.
    """
    if arch is not None and arch not in PUBLISHED_ARCHS:
        raise ValueError(f'Unknown arch {arch!r}; choose one of {", ".join(PUBLISHED_ARCHS)}.')
    converted = _rename(_weights(checkpoint))
    found = _shapes(converted)
    fitting = _fitting_arch(found)
    if arch is None and fitting is None:
        raise ValueError(
            f'The checkpoint ({len(found)} weights, first {next(iter(found))}) is none of '
            f'{", ".join(PUBLISHED_ARCHS)}; name its arch to see what differs.'
        )
    if arch is not None and arch != fitting:
        classes = found.get('head.fc.weight', (100,))[0]
        raise ValueError(_refusal(found, _arch_shapes(arch, classes), f'arch {arch!r}', fitting))
    return converted


def revise_published_keys(checkpoint: Mapping[str, Any], model: nn.Module) -> Mapping[str, Any]:
    """Renames the weights of a published file for ``model``; leaves any other checkpoint alone.

    Call it between reading a checkpoint and loading it strictly. It acts on files whose keys have
    no OpenMMLab prefix: always where ``model.backbone`` is one of this package's, and for another
    backbone (torchvision's weights for mmpretrain's ``ResNet``, say) where every renamed key and
    shape is the model's.

    Args:
        checkpoint: What the file holds, see :func:`convert_cifar_checkpoint`.
        model: An mmpretrain classifier.

    Returns:
        ``dict(state_dict=renamed weights, meta=...)``, or ``checkpoint`` itself.

    Raises:
        ValueError: If ``model.backbone`` is one of ours and the published weights do not fit it.
    """
    backbone = getattr(model, 'backbone', None)
    ours = isinstance(backbone, StageBackbone)
    weights = _weights(checkpoint, strict=ours)
    if not weights or any(key.startswith(_OPENMMLAB_PREFIXES) for key in weights):
        return checkpoint
    converted = _rename(weights)
    found, expected = _shapes(converted), _shapes(model.state_dict())
    if found != expected:
        if not ours:
            return checkpoint
        arch = _fitting_arch(expected)
        what = f'the model, a {type(backbone).__name__}' + f' ({arch!r})' * (arch is not None)
        raise ValueError(_refusal(found, expected, what, _fitting_arch(found)))
    return dict(state_dict=converted, meta=checkpoint.get('meta', {}))


def _weights(checkpoint: Mapping[str, Any], strict: bool = True) -> dict[str, Tensor]:
    """Finds the weights in what a file holds, without the prefix that ``DataParallel`` adds."""
    weights = checkpoint
    for container in _CONTAINERS:
        if isinstance(checkpoint.get(container), Mapping):
            weights = checkpoint[container]
            break
    if not weights or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in weights.items()
    ):
        if not strict:
            return {}
        raise ValueError(
            f'The checkpoint has no weights: expected tensors at the top level or under one of '
            f'{", ".join(_CONTAINERS)}, found the keys {", ".join(map(str, list(weights)[:5]))}; '
            f'check that the file is a model checkpoint.'
        )
    if all(key.startswith('module.') for key in weights):
        weights = {key.removeprefix('module.'): value for key, value in weights.items()}
    return dict(weights)


def _rename(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in weights.items():
        module, _, name = key.rpartition('.')
        renamed[f'head.fc.{name}' if module in _CLASSIFIERS else f'backbone.{key}'] = value
    return renamed


def _shapes(weights: Mapping[str, Tensor]) -> Shapes:
    # files older than BatchNorm's counters lack them, and no inference needs them
    return {
        key: tuple(value.shape)
        for key, value in weights.items()
        if not key.endswith('num_batches_tracked')
    }


@cache
def _backbone_shapes(arch: str) -> tuple[Shapes, int]:
    with torch.device('meta'):  # shapes only: no memory, no initialisation
        backbone = MODELS.build(dict(PUBLISHED_ARCHS[arch]))
    return {f'backbone.{k}': s for k, s in _shapes(backbone.state_dict()).items()}, (
        backbone.embed_channels
    )


def _arch_shapes(arch: str, classes: int) -> Shapes:
    shapes, channels = _backbone_shapes(arch)
    return {**shapes, 'head.fc.weight': (classes, channels), 'head.fc.bias': (classes,)}


def _fitting_arch(found: Shapes) -> str | None:
    """The network whose weights these are, whatever the number of classes."""
    classes = found.get('head.fc.weight', (0,))[0]
    fitting = (arch for arch in PUBLISHED_ARCHS if _arch_shapes(arch, classes) == found)
    return next(fitting, None)


def _refusal(found: Shapes, expected: Shapes, what: str, fitting: str | None) -> str:
    """One sentence: what is wrong with the keys, and what to do."""
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    misshaped = [
        f'{key} ({list(found[key])}, expected {list(shape)})'
        for key, shape in expected.items()
        if found.get(key, shape) != shape
    ]
    kinds = (('missing', missing), ('unexpected', unexpected), ('wrong shape of', misshaped))
    parts = [f'{kind} {_listed(keys)}' for kind, keys in kinds if keys]
    if fitting is None:
        advice = 'no known network has these weights, so give another checkpoint'
    elif set(found) == set(expected) and all(
        key.startswith('head.') for key in expected if found[key] != expected[key]
    ):
        advice = (
            f'the network fits but not its classes, so set num_classes='
            f'{found["head.fc.weight"][0]} or give another checkpoint'
        )
    else:
        advice = f'these are the weights of {fitting!r}, so name that network or give another file'
    return f'The checkpoint does not fit {what}: {"; ".join(parts)}; {advice}.'


def _listed(keys: list[str]) -> str:
    more = len(keys) - _SHOWN
    return ', '.join(keys[:_SHOWN]) + (f' and {more} more' if more > 0 else '')
