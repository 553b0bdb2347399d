"""The boxes of a COCO file of a user, with what in them would spoil a training in silence."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import UsageError, first_few

#: (width, height) of an image by its id.
Sizes = Mapping[Any, tuple[float, float]]
#: Share of the boxes that reach beyond their images from which on corners are taken for the reason.
_MANY_BEYOND = 0.25


def check_boxes(
    file: Path, images: list[Any], boxes: list[Any], categories: list[Any], notes: list[str]
) -> list[Any]:
    """The boxes that a training can use.

    Args:
        file: The COCO file, for the sentences.
        images: Its images.
        boxes: Its annotations.
        categories: Its categories.
        notes: Gets sentences for the user.

    Raises:
        UsageError: If a category or an image is unknown, a bbox is no [x, y, width, height] in pixels, or none can be
            used.
    """
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
        if not (good and all(map(is_number, numbers))):
            raise UsageError(
                f'--data {file}: the annotation of id {box["id"]} has the bbox {numbers!r}, and [x, y, width, height] '
                'in pixels was expected.'
            )
    usable = [
        box
        for box in boxes
        if min(box['bbox'][2:]) >= 1 and not box.get('iscrowd') and not box.get('ignore')
    ]
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
    sizes = {image['id']: (image['width'], image['height']) for image in images}
    _check_corners(file, sizes, usable, notes)
    _say_dropped(file, sizes, boxes, usable, notes)
    return usable


def _check_corners(
    file: Path, sizes: Sizes, usable: list[dict[str, Any]], notes: list[str]
) -> None:
    """Boxes [x1, y1, x2, y2] would be learned as boxes that reach beyond their images."""
    beyond = sum(
        any(
            start + length > side + 1  # rounded coordinates may be a pixel off
            for start, length, side in zip(
                box['bbox'][:2], box['bbox'][2:], sizes[box['image_id']], strict=True
            )
        )
        for box in usable
    )
    ordered = all(
        box['bbox'][2] > box['bbox'][0] and box['bbox'][3] > box['bbox'][1] for box in usable
    )
    if ordered and beyond >= max(2, _MANY_BEYOND * len(usable)):
        raise UsageError(
            f'--data {file}: {beyond} of {len(usable)} boxes reach beyond their images, as [x1, y1, x2, y2] would; '
            'bbox = [x, y, width, height] in pixels was expected.'
        )
    if beyond:
        notes.append(
            f'{beyond} of {len(usable)} boxes of {file} reach beyond the right or lower edge of their images: their '
            'bbox should be [x, y, width, height].'
        )


def _say_dropped(
    file: Path, sizes: Sizes, boxes: list[Any], usable: list[Any], notes: list[str]
) -> None:
    small = sum(min(box['bbox'][2:]) < 1 for box in boxes)
    if small:
        notes.append(
            f'{small} of {len(boxes)} boxes of {file} are narrower than a pixel and not used.'
        )
    ignored = sum(bool(box.get('ignore')) for box in boxes)
    if ignored:
        notes.append(f'{ignored} of {len(boxes)} boxes of {file} are to be ignored and not used.')
    outside = sum(
        box['bbox'][0] >= sizes[box['image_id']][0] or box['bbox'][1] >= sizes[box['image_id']][1]
        for box in usable
    )
    if outside:
        notes.append(f'{outside} of {len(boxes)} boxes of {file} lie outside of their images.')
    empty = len(sizes) - len({box['image_id'] for box in usable})
    if empty:
        notes.append(f'{empty} of {len(sizes)} images of {file} have no box.')


def has_area(box: Mapping[str, Any]) -> bool:
    """Whether a box has an area above 0, without which mmdet leaves it out."""
    area = box.get('area')
    return is_number(area) and area > 0


def is_number(value: Any) -> bool:
    """Whether something of a JSON file is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
