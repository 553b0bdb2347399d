"""A COCO annotation file of a user, with what in it would stop a training or spoil it in silence."""

from __future__ import annotations

import copy
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import UsageError, first_few
from .data_part import Part

_LISTS = ('images', 'annotations', 'categories')


class CocoPart(NamedTuple):
    """One checked COCO file.

    Attributes:
        part: The part.
        file_names: Of its images, as the file has them.
        masks: Whether all boxes have a segmentation.
    """

    part: Part
    file_names: set[str]
    masks: bool


def read_coco_part(
    name: str, file: Path, folders: Sequence[Path], classes: tuple[str, ...] | None = None
) -> tuple[CocoPart, tuple[str, ...], list[str]]:
    """Reads and checks a COCO file.

    mmdet numbers the classes by their order in the file, and needs ``area`` and ``iscrowd`` of each box. Where the
    order is not that of the training file, or something of this is missing, ``content`` holds a corrected copy.

    Args:
        name: The part: ``'train'``, ``'val'`` or ``'test'``.
        file: The annotation file.
        folders: In which the images may be.
        classes: Names of the classes of the training file; None for that file itself.

    Returns:
        The part, its classes in the order of the labels, and sentences for the user.

    Raises:
        UsageError: If an image is missing, a category id is unknown, there is no box, and the like.
    """
    content = _load(file)
    images, boxes, categories = (content[key] for key in _LISTS)
    _check_lists(file, images, boxes, categories)
    names = tuple(str(category['name']) for category in categories)
    notes: list[str] = []
    usable = _check_boxes(file, images, boxes, categories, notes)
    folder = _image_folder(name, file, images, folders)
    changed = False
    if classes is None:
        classes = names
        counts = Counter(box['category_id'] for box in usable)
        unused = [c['name'] for c in categories if not counts[c['id']]]
        if unused:
            notes.append(f'no box of {file} is of the class {first_few(unused)}.')
    elif set(names) != set(classes):
        missing = [c for c in classes if c not in names]
        extra = [c for c in names if c not in classes]
        what = f'lacks the class {missing[0]}' if missing else f'has the class {extra[0]} besides'
        raise UsageError(
            f'--data {file} {what}: the categories of all files have to be those of training '
            f'({first_few(classes, most=8)}), but are {first_few(names, most=8)}.'
        )
    elif names != classes:
        content = copy.deepcopy(content)
        content['categories'].sort(key=lambda category: classes.index(str(category['name'])))
        notes.append(
            f'the categories of {file} stand in another order than those of training, by which they are numbered: a '
            'copy in the order of training is used.'
        )
        changed = True
    if any('area' not in box or 'iscrowd' not in box for box in boxes):
        content = copy.deepcopy(content) if not changed else content
        for box in content['annotations']:
            box.setdefault('area', box['bbox'][2] * box['bbox'][3])
            box.setdefault('iscrowd', 0)
        notes.append(f'boxes of {file} lack area or iscrowd: a copy with both is used.')
        changed = True
    sizes = tuple((int(image['width']), int(image['height'])) for image in images[:200])
    corrected = content if changed else None
    part = Part(folder, len(images), len(usable), file, sizes, corrected)
    file_names = {str(image['file_name']) for image in images}
    masks = all(box.get('segmentation') for box in usable)
    return CocoPart(part, file_names, masks), classes, notes


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding='utf-8'))
    except (ValueError, UnicodeDecodeError) as error:
        raise UsageError(f'--data {file} is no JSON file: {error}.') from None
    missing = [
        k for k in _LISTS if not isinstance(content, dict) or not isinstance(content.get(k), list)
    ]
    if missing:
        raise UsageError(
            f'--data {file} is no COCO file: it has no list {missing[0]}, and lists of images, annotations and '
            'categories were expected.'
        )
    return content


def _check_lists(file: Path, images: list[Any], boxes: list[Any], categories: list[Any]) -> None:
    for kind, items, needed in (
        ('images', images, ('id', 'file_name', 'width', 'height')),
        ('annotations', boxes, ('id', 'image_id', 'category_id', 'bbox')),
        ('categories', categories, ('id', 'name')),
    ):
        for number, item in enumerate(items):
            lacking = [k for k in needed if not isinstance(item, dict) or k not in item]
            if lacking:
                raise UsageError(
                    f'--data {file}: {kind}[{number}] has no {lacking[0]}, which COCO files have.'
                )
        ids = Counter(item['id'] for item in items)
        twice = [key for key, count in ids.items() if count > 1]
        if twice:
            raise UsageError(
                f'--data {file}: the id {first_few(twice)} stands more than once in {kind}.'
            )
    names = Counter(str(category['name']) for category in categories)
    twice = [key for key, count in names.items() if count > 1]
    if twice:
        raise UsageError(
            f'--data {file}: the name {first_few(twice)} stands more than once in categories.'
        )
    if not images:
        raise UsageError(f'--data {file} has no images.')
    if not categories:
        raise UsageError(f'--data {file} has no categories.')


def _check_boxes(
    file: Path, images: list[Any], boxes: list[Any], categories: list[Any], notes: list[str]
) -> list[Any]:
    """The boxes that a training can use."""
    known = {category['id'] for category in categories}
    unknown = Counter(box['category_id'] for box in boxes if box['category_id'] not in known)
    if unknown:
        raise UsageError(
            f'--data {file}: {unknown.total()} annotations have the category_id '
            f'{first_few(sorted(unknown, key=str))}, but categories has {first_few(sorted(known, key=str), most=8)}: '
            'correct the ids, or add the categories.'
        )
    ids = {image['id'] for image in images}
    lost = [box['image_id'] for box in boxes if box['image_id'] not in ids]
    if lost:
        raise UsageError(
            f'--data {file}: {len(lost)} annotations have the image_id {first_few(dict.fromkeys(lost))}, which is not '
            'in images.'
        )
    for box in boxes:
        numbers = box['bbox']
        good = isinstance(numbers, list) and len(numbers) == 4
        if not (good and all(isinstance(n, (int, float)) for n in numbers)):
            raise UsageError(
                f'--data {file}: the annotation of id {box["id"]} has the bbox {numbers!r}, and [x, y, width, height] '
                'in pixels was expected.'
            )
    usable = [box for box in boxes if min(box['bbox'][2:]) >= 1 and not box.get('iscrowd')]
    if not usable:
        found = (
            f'its {len(boxes)} boxes are all narrower than a pixel or crowds'
            if boxes
            else 'it has no box'
        )
        raise UsageError(
            f'--data {file} cannot be learned from or tested on: {found}; annotations with bbox = [x, y, width, '
            'height] in pixels were expected.'
        )
    if max(n for box in usable for n in box['bbox']) <= 1.5:
        raise UsageError(
            f'--data {file}: all boxes lie between 0 and 1.5, as shares of the image would; pixels were expected.'
        )
    _say_dropped(file, images, boxes, usable, notes)
    return usable


def _say_dropped(
    file: Path, images: list[Any], boxes: list[Any], usable: list[Any], notes: list[str]
) -> None:
    small = sum(min(box['bbox'][2:]) < 1 for box in boxes)
    if small:
        notes.append(
            f'{small} of {len(boxes)} boxes of {file} are narrower than a pixel and not used.'
        )
    sizes = {image['id']: (image['width'], image['height']) for image in images}
    outside = sum(
        box['bbox'][0] >= sizes[box['image_id']][0] or box['bbox'][1] >= sizes[box['image_id']][1]
        for box in usable
    )
    if outside:
        notes.append(f'{outside} of {len(boxes)} boxes of {file} lie outside of their images.')
    empty = len(images) - len({box['image_id'] for box in usable})
    if empty:
        notes.append(f'{empty} of {len(images)} images of {file} have no box.')


def _image_folder(name: str, file: Path, images: list[Any], folders: Sequence[Path]) -> Path:
    """The folder in which all images are."""
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
