"""What is known of a user's data set: its kind, classes and parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import UsageError
from .coco_file import read_coco_part
from .data_part import Part
from .find_data import find_parts
from .image_folders import read_folder_part

DETECTION, CLASSIFICATION = 'detection', 'classification'


@dataclass(frozen=True)
class OwnData:
    """A user's data set.

    Attributes:
        task: ``'detection'`` or ``'classification'``.
        classes: Names, in the order of the labels.
        parts: ``train``, ``val``, and ``test`` where there is one.
        notes: What the user may want to know, one sentence each.
        masks: Whether all boxes have a segmentation.
    """

    task: str
    classes: tuple[str, ...]
    parts: dict[str, Part]
    notes: list[str] = field(default_factory=list)
    masks: bool = False


def read_data(paths: Sequence[str], images: Sequence[str] = ()) -> OwnData:
    """Reads and checks a user's data set.

    Args:
        paths: Of ``--data``: a folder, or the annotation files of training and validation (and test).
        images: Of ``--images``: a folder for all parts, or one for each of the files.

    Raises:
        UsageError: If something in it would stop a training or spoil it in silence.
    """
    found = find_parts(paths, images)
    if found.task == CLASSIFICATION:
        return _classification(found.folders)
    train, classes, notes = read_coco_part('train', found.files['train'], found.images['train'])
    parts = {'train': train.part}
    masks = train.masks
    for name, file in found.files.items():
        if name != 'train':
            other, _, more = read_coco_part(name, file, found.images[name], classes)
            parts[name] = other.part
            notes += more
            masks = masks and other.masks
            _say_shared(train.file_names, other.file_names, name, notes)
    return OwnData(DETECTION, classes, parts, notes, masks)


def _say_shared(train: set[str], other: set[str], name: str, notes: list[str]) -> None:
    both = len(train & other)
    if both:
        notes.append(
            f'{both} of the {len(other)} images of {name} have the names of training images: if they are the same '
            'images, the metric is too good.'
        )


def _classification(folders: dict[str, Path]) -> OwnData:
    classes, train, notes = read_folder_part('train', folders['train'])
    parts = {'train': Part(folders['train'], train)}
    for name, folder in folders.items():
        if name != 'train':
            others, count, more = read_folder_part(name, folder)
            notes += more
            _compare(classes, others, folders['train'], folder)
            parts[name] = Part(folder, count)
    return OwnData(CLASSIFICATION, classes, parts, notes)


def _compare(classes: tuple[str, ...], others: tuple[str, ...], first: Path, second: Path) -> None:
    lacking, extra = (
        [c for c in classes if c not in others],
        [c for c in others if c not in classes],
    )
    if lacking or extra:
        what = f'lacks {lacking[0]}' if lacking else f'has {extra[0]} besides'
        raise UsageError(
            f'--data: {second} {what}, but the class folders of {first} and {second} have to be the same: '
            f'{len(classes)} and {len(others)} were found.'
        )
