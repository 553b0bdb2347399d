"""The resolution that a network is tested at, read from its config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from torch import nn

from ..errors import UsageError

# Data sets whose images are arrays of one size, which their pipelines need not set.
_SIZE_OF_DATASET = {'CIFAR10': 32, 'CIFAR100': 32, 'MNIST': 28, 'FashionMNIST': 28}
# The argument by which a transform sets the size, (width, height) or the side of a square.
_SIZE_ARGUMENTS = {
    'CenterCrop': 'crop_size',
    'EfficientNetCenterCrop': 'crop_size',
    'EfficientNetRandomCrop': 'scale',
    'RandomCrop': 'crop_size',
    'RandomResize': 'scale',
    'RandomResizedCrop': 'scale',
    'Resize': 'scale',
    'ResizeEdge': 'scale',
}
_LOADERS = ('test_dataloader', 'val_dataloader', 'train_dataloader')


def input_size(cfg: Config) -> tuple[int, int]:
    """The size of an image after the config's pipeline, before it is padded.

    The test pipeline is used, and the training pipeline where testing changes no size. Of a scale such as
    (1333, 800) with ``keep_ratio`` it is the landscape image that reaches both.

    Args:
        cfg: Of a training of mmdet or mmpretrain, distillation or not.

    Returns:
        (height, width) in pixels.

    Raises:
        UsageError: If no pipeline sets a size and the data set has no fixed one.
    """
    datasets = list(_datasets(cfg))
    for dataset in datasets:
        for transform in reversed(dataset.get('pipeline') or []):
            argument = _SIZE_ARGUMENTS.get(_name(transform))
            size = transform.get(argument) if argument else None
            if isinstance(size, (list, tuple)) and isinstance(size[0], (list, tuple)):
                size = size[-1]  # the largest of a range, as configs have it
            if isinstance(size, int):
                return size, size
            if size is not None:
                width, height = size
                return int(height), int(width)
    for dataset in datasets:
        if _name(dataset) in _SIZE_OF_DATASET:
            side = _SIZE_OF_DATASET[_name(dataset)]
            return side, side
    raise UsageError(
        f'{cfg.filename}: the size of an image is not known, since no pipeline of its dataloaders '
        'has a transform that sets it, such as Resize: give it with --shape HEIGHT WIDTH.'
    )


def reads_files(cfg: Config) -> bool:
    """Whether images reach the data preprocessor as files are read, BGR, and not as a data set gives them."""
    for dataset in _datasets(cfg):
        return any(_name(t).startswith('LoadImage') for t in dataset.get('pipeline') or [])
    return True


def image_mode(model: nn.Module, cfg: Config) -> str:
    """How a model's data preprocessor expects an image: ``'L'`` (grey), ``'BGR'`` or ``'RGB'``.

    Args:
        model: Its first convolution tells the number of channels.
        cfg: Of its training.
    """
    convs = (m for m in model.modules() if isinstance(m, nn.Conv2d))
    if getattr(next(convs, None), 'in_channels', 3) == 1:
        return 'L'
    return 'BGR' if reads_files(cfg) else 'RGB'


def _datasets(cfg: Config) -> Iterator[Any]:
    for name in _LOADERS:
        dataset = (cfg.get(name) or {}).get('dataset')
        while dataset and 'dataset' in dataset:  # RepeatDataset and its like
            dataset = dataset['dataset']
        if dataset:
            yield dataset


def _name(cfg: Any) -> str:
    """The type of a config's dict without its scope."""
    kind = cfg.get('type', '')
    return kind.split('.')[-1] if isinstance(kind, str) else kind.__name__
