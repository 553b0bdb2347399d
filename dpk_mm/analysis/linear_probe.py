"""Linear probe: how well a linear layer on a frozen student's features classifies other images.

Source: A.7 and Table 16 of the paper, a WRN-16-2 of CIFAR-100 on STL-10 and TinyImageNet.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import BaseClassifier, ImageClassifier
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

from ..errors import UsageError, first_few, without_period
from .input_size import image_mode, input_size
from .loading import build_student, load_student_weights

INPUTS = ('features', 'logits')


class ImageFolder(NamedTuple):
    """The labelled images of one split.

    Attributes:
        paths: Image files.
        labels: Index into ``classes`` of each image.
        classes: Names of the classes, sorted.
    """

    paths: list[str]
    labels: list[int]
    classes: list[str]


@dataclass(frozen=True)
class ProbeResult:
    """One linear probe.

    Attributes:
        top1: Top-1 accuracy on the test images in percent.
        top5: Top-5 accuracy in percent; None with five classes or fewer.
        train_top1: Top-1 accuracy on the training images in percent.
        num_train: Training images.
        num_test: Test images.
        num_classes: Classes of the folder.
        dims: Input width of the linear layer.
        image_size: (height, width) that images are resized to.
    """

    top1: float
    top5: float | None
    train_top1: float
    num_train: int
    num_test: int
    num_classes: int
    dims: int
    image_size: tuple[int, int]


# The images.


def list_images(folder: str | os.PathLike[str]) -> ImageFolder:
    """Lists the images of one split.

    Args:
        folder: Has one folder per class, whose images may lie deeper (``<class>/images/*.JPEG`` of
            TinyImageNet); or ``images/`` and ``val_annotations.txt``, which is TinyImageNet's ``val``.

    Returns:
        The images, sorted by class and name, or in the order of the annotations.

    Raises:
        UsageError: If the folder is missing, or has no class or a class without images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(
            f'there is no folder {folder}: --data was expected to hold train/<class>/*.jpg and '
            'val/<class>/*.jpg (or test/).'
        )
    annotations = folder / 'val_annotations.txt'
    if annotations.is_file():
        return _annotated(folder, annotations)
    try:
        classes, index = find_classes(os.fspath(folder))
        samples = make_dataset(os.fspath(folder), index, IMG_EXTENSIONS)
    except FileNotFoundError as error:
        raise UsageError(
            f'{folder} was expected to have a folder of images per class: {without_period(error)}.'
        ) from None
    return ImageFolder([path for path, _ in samples], [label for _, label in samples], classes)


def _annotated(folder: Path, annotations: Path) -> ImageFolder:
    """TinyImageNet's ``val``: lines of file name, class and box, with tabs between them."""
    named = []
    for line in annotations.read_text(encoding='utf-8').splitlines():
        if line.strip():
            file, name = line.split('\t')[:2]
            named.append((folder / 'images' / file, name))
    missing = next((path for path, _ in named if not path.is_file()), None)
    if missing or not named:
        raise UsageError(
            f'{annotations} names {missing or "no image"}, but the images were expected in '
            f'{folder / "images"}: unpack the data set again.'
        )
    classes = sorted({name for _, name in named})
    return ImageFolder(
        [os.fspath(path) for path, _ in named], [classes.index(name) for _, name in named], classes
    )


def list_splits(
    data: str | os.PathLike[str], test_split: str | None = None
) -> tuple[ImageFolder, ImageFolder]:
    """Lists the images to train and to test on.

    Args:
        data: Folder with ``train/`` and the test split, see :func:`list_images`.
        test_split: Name of the latter; ``val`` if there is one, else ``test``.

    Returns:
        Training and test images, with the same classes.

    Raises:
        UsageError: If a folder is missing or empty, or the classes of the two differ.
    """
    data = Path(data)
    if not data.is_dir():
        raise UsageError(f'--data: there is no folder {data}.')
    test_split = test_split or ('val' if (data / 'val').is_dir() else 'test')
    train, test = list_images(data / 'train'), list_images(data / test_split)
    if train.classes != test.classes:
        names = sorted(set(train.classes) ^ set(test.classes))
        raise UsageError(
            f'{data / "train"} has {len(train.classes)} classes and {data / test_split} has '
            f'{len(test.classes)}, which differ in {first_few(names, most=1, quote=True)}: both have to have the same.'
        )
    return train, test


class _Images(Dataset):
    """``[C, H, W]`` uint8; the path as a string where a file cannot be read.

    (An error raised in a worker would reach the user as that worker's traceback.)
    """

    def __init__(self, paths: Sequence[str], size: tuple[int, int], mode: str) -> None:
        self.paths = paths
        self.size = size
        self.mode = mode

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor | str:
        height, width = self.size
        try:
            with Image.open(self.paths[index]) as file:
                image = file.convert('L' if self.mode == 'L' else 'RGB')
        except OSError:
            return self.paths[index]
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image)).view(height, width, -1).permute(2, 0, 1)
        return pixels.flip(0) if self.mode == 'BGR' else pixels


# The frozen student.


@dataclass(frozen=True)
class FrozenStudent:
    """A student in eval mode without gradients, and how images have to reach it.

    Attributes:
        model: The classifier; its ``data_preprocessor`` normalises.
        mode: 'BGR', 'RGB' or 'L' (grey), the channels that the data preprocessor expects.
        image_size: (height, width) of the test pipeline.
    """

    model: BaseClassifier
    mode: str
    image_size: tuple[int, int]


def load_frozen_student(
    config: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str],
    device: str | torch.device = 'cpu',
    image_size: tuple[int, int] | None = None,
) -> FrozenStudent:
    """Builds the student of a config and loads its weights.

    Args:
        config: Of a distillation, or of a plain mmpretrain training.
        checkpoint: What such a training wrote, or a student alone.
        device: Torch device.
        image_size: (height, width); the test pipeline's if None.

    Returns:
        The student, in eval mode, without gradients.

    Raises:
        UsageError: If the config has no classifier, or the checkpoint does not fit it.
    """
    model = build_student(config)
    if not isinstance(model, BaseClassifier):
        raise UsageError(
            f'{config} has a {type(model).__name__}, but a linear probe needs a classifier of mmpretrain.'
        )
    load_student_weights(model, checkpoint)
    model.to(device).requires_grad_(False)
    return FrozenStudent(model, image_mode(model, model.cfg), image_size or input_size(model.cfg))


@torch.no_grad()
def extract(
    student: FrozenStudent,
    paths: Sequence[str],
    kind: str = 'features',
    batch_size: int = 256,
    workers: int = 2,
) -> Tensor:
    """Runs the student on images, once and without augmentation.

    The image is resized so that it covers the student's resolution (bilinear, with anti-aliasing), and its middle is
    taken; a square image of a square resolution is only resized.

    Args:
        student: The student.
        paths: Image files.
        kind: 'features', the input of its last linear layer, or 'logits', the output of that layer.
        batch_size: Images of a forward pass.
        workers: Processes that read images; 0 reads them here.

    Returns:
        ``[len(paths), dims]`` float32 on the CPU.

    Raises:
        UsageError: If a file is no image, or the classifier cannot give its features.
    """
    if kind not in INPUTS:
        raise ValueError(f'kind must be one of {INPUTS}, but is {kind!r}.')
    model, device = student.model, next(student.model.parameters()).device
    if kind == 'features' and not (
        isinstance(model, ImageClassifier) and hasattr(model.head, 'pre_logits')
    ):
        raise UsageError(
            f'{type(model).__name__} does not give the features before its logits: probe its logits with '
            '--input logits.'
        )
    loader = DataLoader(
        _Images(paths, student.image_size, student.mode),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=list,
    )
    console = Console(stderr=True)
    batches = track(loader, 'features', console=console, disable=not sys.stderr.isatty())
    out = []
    for batch in batches:
        broken = next((image for image in batch if isinstance(image, str)), None)
        if broken is not None:
            raise UsageError(f'{broken} cannot be read as an image: remove or replace it.')
        data = {'inputs': torch.stack(batch).to(device)}
        inputs = model.data_preprocessor(data, training=False)['inputs']
        if kind == 'logits':
            found = model(inputs, mode='tensor')
        else:
            found = model.extract_feat(inputs, stage='pre_logits')
        # a distilled transformer has two: class token and distillation token
        parts = found if isinstance(found, (list, tuple)) else [found]
        out.append(torch.cat([part.flatten(1) for part in parts], 1).float().cpu())
    return torch.cat(out)


# The linear layer.


def train_linear(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    epochs: int = 100,
    lr: float = 0.1,
    batch_size: int = 256,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> nn.Linear:
    """Trains one linear layer with cross-entropy: SGD with momentum 0.9, cosine schedule to zero.

    Features are brought to mean 0 and variance 1 of the training images, so that one learning rate does for any
    student; this is undone in the layer's weights, and what a linear layer can express is the same.

    Args:
        features: ``[n, dims]``.
        labels: ``[n]`` int64 in [0, num_classes).
        num_classes: Outputs.
        epochs: Passes over the features.
        lr: First learning rate.
        batch_size: Features of a step.
        weight_decay: L2 penalty on the layer for standardised features.
        seed: Of the order of the features; weights start at zero.

    Returns:
        A layer for the features as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    mean, std = features.mean(0), features.std(0, correction=0)
    # a constant feature must not have its rounding errors amplified
    std = torch.where(std > 1e-6 * mean.abs(), std, torch.ones_like(std))
    x, labels = (features - mean) / std, labels.to(features.device)
    layer = nn.Linear(x.shape[1], num_classes, device=x.device)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(layer.parameters(), lr, momentum=0.9, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator).to(x.device)
        for chosen in order.split(batch_size):
            optimizer.zero_grad()
            F.cross_entropy(layer(x[chosen]), labels[chosen]).backward()
            optimizer.step()
        schedule.step()
    with torch.no_grad():
        layer.weight /= std
        layer.bias.sub_(layer.weight @ mean)
    return layer.requires_grad_(False)


def accuracy(layer: nn.Linear, features: Tensor, labels: Tensor) -> tuple[float, float | None]:
    """Top-1 and top-5 accuracy in percent; the latter is None with five classes or fewer."""
    topk = (1, 5) if layer.out_features > 5 else (1,)
    values = Accuracy.calculate(
        layer(features), labels.to(features.device), topk=topk, thrs=(None,)
    )
    top = [round(float(value[0]), 4) for value in values]  # float32 gives 100.00001 at times
    return top[0], top[1] if len(top) > 1 else None


def linear_probe(
    config: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    test_split: str | None = None,
    kind: str = 'features',
    image_size: tuple[int, int] | None = None,
    epochs: int = 100,
    lr: float = 0.1,
    batch_size: int = 256,
    weight_decay: float = 0.0,
    workers: int = 2,
    seed: int = 0,
    device: str | torch.device = 'cpu',
) -> ProbeResult:
    """Trains a linear layer on a frozen student and tests it.

    Args:
        config: See :func:`load_frozen_student`.
        checkpoint: See :func:`load_frozen_student`.
        data: Folder of images, see :func:`list_splits`.
        test_split: See :func:`list_splits`.
        kind: See :func:`extract`. The paper probes the features ("layers before logits").
        image_size: (height, width) of the images; the student's test resolution if None.
        epochs: See :func:`train_linear`.
        lr: See :func:`train_linear`.
        batch_size: See :func:`train_linear`; also the images of a forward pass.
        weight_decay: See :func:`train_linear`.
        workers: See :func:`extract`.
        seed: See :func:`train_linear`.
        device: Torch device.

    Returns:
        Accuracies and sizes.

    Raises:
        UsageError: If the folder, the config or the checkpoint is wrong.
    """
    for name, value in (('epochs', epochs), ('batch_size', batch_size)):
        if value < 1:
            raise UsageError(f'--{name.replace("_", "-")} must be at least 1, but is {value}.')
    train, test = list_splits(data, test_split)
    student = load_frozen_student(config, checkpoint, device, image_size)
    x, x_test = (
        extract(student, images.paths, kind, batch_size, workers).to(device)
        for images in (train, test)
    )
    y, y_test = torch.tensor(train.labels), torch.tensor(test.labels)
    layer = train_linear(x, y, len(train.classes), epochs, lr, batch_size, weight_decay, seed)
    top1, top5 = accuracy(layer, x_test, y_test)
    return ProbeResult(
        top1=top1,
        top5=top5,
        train_top1=accuracy(layer, x, y)[0],
        num_train=len(x),
        num_test=len(x_test),
        num_classes=len(train.classes),
        dims=x.shape[1],
        image_size=student.image_size,
    )
