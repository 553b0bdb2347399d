"""A COCO annotation file of a user, with what in it would stop a training or spoil it in silence."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...errors import UsageError, first_few
from .coco_boxes import check_boxes, has_area, is_number
from .coco_images import check_sizes, image_folder
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
    order is not that of the training file, something of this is missing, or the ids of the boxes are none for
    pycocotools, ``content`` holds a corrected copy.

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
    usable = check_boxes(file, images, boxes, categories, notes)
    folder = image_folder(name, file, images, folders)
    check_sizes(file, images, folder)
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
        content, changed = copy.deepcopy(content), True
        content['categories'].sort(key=lambda category: classes.index(str(category['name'])))
        notes.append(
            f'the categories of {file} stand in another order than those of training, by which they are numbered: a '
            'copy in the order of training is used.'
        )
    if any(not isinstance(category['name'], str) for category in categories):
        content, changed = content if changed else copy.deepcopy(content), True
        for category in content['categories']:  # mmdet looks for the texts, and would find none
            category['name'] = str(category['name'])
        notes.append(f'categories of {file} have numbers for names: a copy with texts is used.')
    if any(not has_area(box) or 'iscrowd' not in box for box in boxes):
        content, changed = content if changed else copy.deepcopy(content), True
        for box in content['annotations']:
            if not has_area(box):  # mmdet leaves out boxes of no area
                box['area'] = box['bbox'][2] * box['bbox'][3]
            box.setdefault('iscrowd', 0)
        notes.append(f'boxes of {file} lack area or iscrowd: a copy with both is used.')
    if _need_numbers(boxes):
        content, changed = content if changed else copy.deepcopy(content), True
        for number, box in enumerate(content['annotations'], 1):
            box['id'] = number
        notes.append(
            f'the ids of the annotations of {file} are not all different whole numbers from 1 on, which the metric of '
            'COCO needs: a copy with the ids 1, 2, 3, ... is used.'
        )
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


def _need_numbers(boxes: list[Any]) -> bool:
    """pycocotools takes the id 0 of a box that was found for none, and fails for texts."""
    ids = [box['id'] for box in boxes]
    good = all(isinstance(i, int) and not isinstance(i, bool) and i >= 1 for i in ids)
    return not good or len(set(ids)) < len(ids)


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
        ids = Counter(item['id'] for item in items if kind != 'annotations')
        twice = [key for key, count in ids.items() if count > 1]
        if twice:
            raise UsageError(
                f'--data {file}: the id {first_few(twice)} stands more than once in {kind}.'
            )
    for image in images:
        sides = [image['width'], image['height']]
        if not all(is_number(side) and side >= 1 for side in sides):
            raise UsageError(
                f'--data {file}: the image {image["file_name"]} has the width {sides[0]!r} and the height '
                f'{sides[1]!r}, and its size in pixels was expected.'
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
