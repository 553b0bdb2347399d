"""The images of a COCO file of a user: where they are, and whether they are those that the file speaks of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv

from ...errors import UsageError, first_few

#: Images that are read to compare their size.
_READ = 16


def image_folder(name: str, file: Path, images: list[Any], folders: Sequence[Path]) -> Path:
    """The folder in which all images are.

    Args:
        name: The part, for the sentences.
        file: The COCO file, likewise.
        images: Its images.
        folders: Where they may be, the likeliest first.

    Raises:
        UsageError: If no folder has all of them.
    """
    names = [str(image['file_name']) for image in images]
    if not folders:
        raise UsageError(
            f'--data {file}: no folder of images was found for {name}: name it, --images FOLDER.'
        )
    best, missing = folders[0], names
    for folder in folders:
        lacking = [n for n in names if not os.path.isfile(folder / n)]
        if len(lacking) < len(missing):
            best, missing = folder, lacking
        if not lacking:
            return folder
    if len(missing) == len(names):
        looked = first_few(folders, most=6)
        raise UsageError(
            f'--data {file}: none of its {len(names)} images, such as {names[0]}, is in {looked}: name their folder, '
            '--images FOLDER.'
        )
    raise UsageError(
        f'--data {file}: {len(missing)} of its {len(names)} images are not in {best}: {first_few(missing)}; get them, '
        'or take them out of the file.'
    )


def check_sizes(file: Path, images: Sequence[Any], folder: Path) -> None:
    """Reads some images from all over the file, as a training reads them, and compares their sizes.

    Boxes that were drawn on images of another size are wrong for these; cameras' images that are turned by their EXIF
    data have width and height exchanged.

    Args:
        file: The COCO file, for the sentences.
        images: Its images, each with width and height.
        folder: Where they are.

    Raises:
        UsageError: If one cannot be read, or is of another size than the file says.
    """
    step = -(-len(images) // _READ)
    for image in images[::step]:
        path = folder / str(image['file_name'])
        pixels = mmcv.imread(str(path))
        if pixels is None:
            raise UsageError(
                f'--data {file}: the image {path} cannot be read: replace it, or take it out of the file.'
            )
        height, width = pixels.shape[:2]
        if (width, height) != (image['width'], image['height']):
            turned = (height, width) == (image['width'], image['height'])
            raise UsageError(
                f'--data {file}: the image {path} has {width}x{height} pixels'
                + (', turned as its EXIF data may say' if turned else '')
                + f', but the file says {image["width"]}x{image["height"]}: correct width and height, and the boxes if '
                'they belong to an image of that size.'
            )
