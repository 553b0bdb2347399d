"""A folder with a folder of images for each class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ...errors import UsageError, first_few

#: What mmpretrain's ``CustomDataset`` takes for an image by default.
SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')


#: Pictures that it leaves out.
_NOT_READ = ('.tiff', '.webp', '.gif', '.jp2', '.heic', '.avif', '.jfif')


def has_images(folder: Path) -> bool:
    """Whether a folder, or one inside of it, holds an image."""
    return any(name.endswith(SUFFIXES) for name in _names(folder))


def class_folders(folder: Path) -> list[str]:
    """Names of the folders inside of ``folder``, if any of them holds images."""
    if not folder.is_dir():
        return []
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    return names if any(has_images(folder / name) for name in names) else []


def read_folder_part(part: str, folder: Path) -> tuple[tuple[str, ...], int, list[str]]:
    """Classes and number of images of a part.

    Args:
        part: ``'train'``, ``'val'`` or ``'test'``.
        folder: Holds the class folders.

    Returns:
        The names of the classes in the order in which mmpretrain numbers them, how many images there are, and
        sentences for the user.

    Raises:
        UsageError: If there is one class only, or a class has no image.
    """
    classes = class_folders(folder)
    if len(classes) < 2:
        raise UsageError(
            f'--data: {folder} has {len(classes)} class folder, and at least 2 were expected for {part}.'
        )
    inside = {name: list(_names(folder / name)) for name in classes}
    counts = {c: sum(n.endswith(SUFFIXES) for n in names) for c, names in inside.items()}
    empty = [folder / name for name in classes if not counts[name]]
    if empty:
        raise UsageError(
            f'--data: {first_few(empty)} has no image ({", ".join(SUFFIXES)}): add images, '
            'or remove the folder in train/ and val/.'
        )
    notes = []
    others = sum(name.endswith(_NOT_READ) for names in inside.values() for name in names)
    if others:
        notes.append(
            f'{others} files of {folder} end in {", ".join(_NOT_READ)} and are not read: '
            f'mmpretrain reads {", ".join(SUFFIXES)}.'
        )
    beside = sum(
        entry.is_file() and entry.name.lower().endswith(SUFFIXES) and entry.name[0] != '.'
        for entry in os.scandir(folder)
    )
    if beside:
        notes.append(
            f'{beside} images lie in {folder} itself and not in the folder of a class: they are not read.'
        )
    return tuple(classes), sum(counts.values()), notes


def _names(folder: Path) -> Iterator[str]:
    """Files in and below a folder as mmpretrain finds them: through links, without hidden ones; in small letters."""
    for _, _, names in os.walk(folder, followlinks=True):
        yield from (name.lower() for name in names if not name.startswith('.'))
