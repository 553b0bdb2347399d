"""Images of one size, read or made, that stay on the device."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

PARTS = ('train', 'test')


class Images(NamedTuple):
    """One part of a data set.

    Attributes:
        pixels: ``[N, 3, H, W]`` uint8, RGB.
        labels: ``[N]`` int64.
    """

    pixels: Tensor
    labels: Tensor


def read_images(path: str | Path) -> tuple[dict[str, Images], list[str]]:
    """Reads ``train/CLASS/*`` and ``test/CLASS/*`` of a folder or a tar file.

    Args:
        path: A folder, or a tar file of any compression that Python knows.

    Returns:
        By part, and the names of the classes in the order of the labels.

    Raises:
        ValueError: If a part is missing, or the images have several sizes.
    """
    path = Path(path)
    pixels: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}
    names: dict[str, list[str]] = {part: [] for part in PARTS}
    for name, content in _files(path):
        parts = PurePosixPath(name).parts
        if len(parts) < 3 or parts[-3] not in PARTS:
            continue
        with Image.open(io.BytesIO(content)) as image:
            pixels[parts[-3]].append(np.asarray(image.convert('RGB')))
        names[parts[-3]].append(parts[-2])
    for part in PARTS:
        if not pixels[part]:
            raise ValueError(
                f'{path} has no {part}/CLASS/IMAGE; give a folder or tar file that has.'
            )
        sizes = {image.shape for image in pixels[part]}
        if len(sizes) > 1:
            raise ValueError(
                f'{path} has images of {len(sizes)} sizes in {part}; they must have one.'
            )
    classes = sorted(set(names['train']))
    return {
        part: Images(
            torch.from_numpy(np.stack(pixels[part])).permute(0, 3, 1, 2).contiguous(),
            torch.tensor([classes.index(name) for name in names[part]]),
        )
        for part in PARTS
    }, classes


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in sorted(p for p in path.rglob('*') if p.is_file()):
            yield file.relative_to(path).as_posix(), file.read_bytes()
        return
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile():
                yield member.name, archive.extractfile(member).read()  # type: ignore[union-attr]


def make_images(count: int, classes: int, seed: int, side: int = 32) -> Images:
    """Noisy images of one coarse pattern a class, shifted: easy, but not by the mean colour.

    Args:
        count: N.
        classes: Labels are below it, each as often as the others.
        seed: Of what differs between images; the patterns are always the same.
        side: H and W.
    """
    patterns = torch.rand(classes, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    large = F.interpolate(patterns, (side, side), mode='nearest')
    shifts = torch.randint(0, side // 4, (count, 2), generator=generator).tolist()
    images = torch.stack(
        [
            large[label].roll((y, x), (1, 2))
            for label, (y, x) in zip(labels.tolist(), shifts, strict=True)
        ]
    )
    noise = torch.randn(images.shape, generator=generator)
    return Images(((images + 0.5 * noise).clamp(0, 1) * 255).to(torch.uint8), labels)


def augment(pixels: Tensor, padding: int = 4) -> Tensor:
    """Crops of the padded images, each at a place of its own, and half of them flipped.

    Args:
        pixels: ``[N, C, H, W]``.
        padding: Zeros at each side before the crop, which has the image's size.

    Returns:
        ``[N, C, H, W]``, of the global random generator of the device.
    """
    n, _, height, width = pixels.shape
    device = pixels.device
    padded = F.pad(pixels, (padding,) * 4)
    top, left = torch.randint(0, 2 * padding + 1, (2, n, 1), device=device)
    rows = top + torch.arange(height, device=device)
    columns = left + torch.arange(width, device=device)
    flip = torch.rand(n, 1, device=device) < 0.5
    columns = torch.where(flip, columns.flip(1), columns)
    index = torch.arange(n, device=device)
    # the two parts of the index stand apart, so their dimensions come first
    return padded[index[:, None, None], :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)
