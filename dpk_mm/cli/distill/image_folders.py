"""A folder with a folder of images for each class."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import UsageError, first_few

#: What mmpretrain's ``CustomDataset`` takes for an image by default.
SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')


def has_images(folder: Path) -> bool:
    """Whether a folder, or one inside of it, holds an image."""
    return any(name.lower().endswith(SUFFIXES) for _, _, names in os.walk(folder) for name in names)


def class_folders(folder: Path) -> list[str]:
    """Names of the folders inside of ``folder``, if any of them holds images."""
    if not folder.is_dir():
        return []
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    return names if any(has_images(folder / name) for name in names) else []


def read_folder_part(part: str, folder: Path) -> tuple[tuple[str, ...], int]:
    """Classes and number of images of a part.

    Args:
        part: ``'train'``, ``'val'`` or ``'test'``.
        folder: Holds the class folders.

    Returns:
        The names of the classes in the order in which mmpretrain numbers them, and how many images there are.

    Raises:
        UsageError: If there is one class only, or a class has no image.
    """
    classes = class_folders(folder)
    if len(classes) < 2:
        raise UsageError(
            f'--data: {folder} has {len(classes)} class folder, and at least 2 were expected for {part}.'
        )
    empty = [name for name in classes if not has_images(folder / name)]
    if empty:
        raise UsageError(
            f'--data: {first_few([folder / name for name in empty])} has no image ({", ".join(SUFFIXES)}): add images, '
            'or remove the folder in train/ and val/.'
        )
    count = sum(
        name.lower().endswith(SUFFIXES) for _, _, names in os.walk(folder) for name in names
    )
    return tuple(classes), count
