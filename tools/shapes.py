"""A small COCO-format detection set of drawn shapes.

It stands in for COCO where nothing can be downloaded: hard enough that a small detector
stays far behind a larger one, easy enough that both learn within minutes on two CPU cores.
No dataset class is needed: ``mmdet.CocoDataset`` reads it with ``metainfo=METAINFO``.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dpk_mm.fileio import write_json_atomically

SHAPES_CLASSES = ('rectangle', 'ellipse', 'triangle', 'cross', 'ring')

#: ``metainfo`` for ``mmdet.CocoDataset``; the colours are Okabe and Ito's colour-blind safe ones.
METAINFO: dict[str, Any] = {
    'classes': SHAPES_CLASSES,
    'palette': [(0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0)],
}

SPLITS = ('train', 'val')
MIN_OBJECTS, MAX_OBJECTS = 2, 5
MIN_HALF_SIDE, MAX_HALF_SIDE = 10, 27  # pixels; a side is 2 * half + 1, so 21 to 55
MIN_LINES, MAX_LINES = 1, 3
MIN_VISIBLE = 0.5  # of an object's pixels, after everything was painted over it
MIN_IMAGE_SIZE = 96  # pixels; below it two large objects do not fit reliably

# Part of the written parameters: a set made by an older drawing procedure is not taken for ours.
_FORMAT = 1
_PLACEMENT_TRIES = 50


@dataclass(frozen=True)
class ShapeObject:
    """One drawn object.

    Attributes:
        label: Index into ``SHAPES_CLASSES``.
        mask: Bool ``[H, W]``, every pixel the object covers inside the image, also those that
            another object hides. The box is the extent of this mask.
        visible: Bool ``[H, W]``, the part of ``mask`` that no later object hides.
        bbox: ``(x, y, width, height)`` in pixels, COCO's convention: ``x + width`` is one past the
            last covered column.
    """

    label: int
    mask: np.ndarray
    visible: np.ndarray
    bbox: tuple[int, int, int, int]


@dataclass(frozen=True)
class Scene:
    """An image, BGR uint8 ``[H, W, 3]`` as OpenCV writes it, and its objects in drawing order."""

    image: np.ndarray
    objects: list[ShapeObject]


def shape_mask(
    label: int, centre: tuple[int, int], half: tuple[int, int], image_size: int
) -> np.ndarray:
    """Draws one shape and returns the pixels it covers.

    Args:
        label: Index into ``SHAPES_CLASSES``.
        centre: ``(x, y)`` in pixels; may lie near or beyond the border, the shape is clipped.
        half: ``(rx, ry)`` in pixels: the shape spans columns ``x - rx`` to ``x + rx`` and rows ``y - ry``
            to ``y + ry``, both ends included.
        image_size: Side of the square image in pixels.

    Returns:
        Bool mask ``[image_size, image_size]``.
    """
    mask = np.zeros((image_size, image_size), np.uint8)
    (cx, cy), (rx, ry) = centre, half
    left, top, right, bottom = cx - rx, cy - ry, cx + rx, cy + ry
    name = SHAPES_CLASSES[label]
    # LINE_8 throughout: an anti-aliased edge has no exact extent.
    if name == 'rectangle':
        cv2.rectangle(mask, (left, top), (right, bottom), 1, cv2.FILLED)
    elif name == 'ellipse':
        cv2.ellipse(mask, (cx, cy), (rx, ry), 0, 0, 360, 1, cv2.FILLED)
    elif name == 'triangle':
        corners = np.array([[cx, top], [left, bottom], [right, bottom]], np.int32)
        cv2.fillPoly(mask, [corners], 1)
    elif name == 'cross':
        arm_x, arm_y = rx // 3, ry // 3
        cv2.rectangle(mask, (cx - arm_x, top), (cx + arm_x, bottom), 1, cv2.FILLED)
        cv2.rectangle(mask, (left, cy - arm_y), (right, cy + arm_y), 1, cv2.FILLED)
    else:
        stroke = max(min(rx, ry) // 3, 3)
        inner = (rx - stroke, ry - stroke)
        cv2.ellipse(mask, (cx, cy), (rx, ry), 0, 0, 360, 1, cv2.FILLED)
        cv2.ellipse(mask, (cx, cy), inner, 0, 0, 360, 0, cv2.FILLED)
    return mask.astype(bool)


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Returns the extent ``(x, y, width, height)`` of a bool mask ``[H, W]`` that is not empty."""
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    x, y = int(columns[0]), int(rows[0])
    return x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1


def _place_objects(rng: np.random.Generator, image_size: int) -> list[ShapeObject]:
    count = int(rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
    labels: list[int] = []
    masks: list[np.ndarray] = []
    visible: list[np.ndarray] = []
    for _ in range(count):
        label = int(rng.integers(len(SHAPES_CLASSES)))
        for _ in range(_PLACEMENT_TRIES):
            rx, ry = (int(v) for v in rng.integers(MIN_HALF_SIDE, MAX_HALF_SIDE + 1, size=2))
            # Up to an eighth of its width or height may leave the image.
            cx = int(rng.integers(3 * rx // 4, image_size - 3 * rx // 4))
            cy = int(rng.integers(3 * ry // 4, image_size - 3 * ry // 4))
            mask = shape_mask(label, (cx, cy), (rx, ry), image_size)
            remaining = [old & ~mask for old in visible]
            if all(r.sum() >= MIN_VISIBLE * m.sum() for r, m in zip(remaining, masks, strict=True)):
                labels.append(label)
                masks.append(mask)
                visible = [*remaining, mask]
                break
    return [
        ShapeObject(label, mask, seen, tight_box(mask))
        for label, mask, seen in zip(labels, masks, visible, strict=True)
    ]


def _paint(rng: np.random.Generator, objects: list[ShapeObject], image_size: int) -> np.ndarray:
    background = rng.uniform(60, 195, size=3)
    # float64 throughout: numpy 1 and 2 disagree on what float32 times a float64 scalar is.
    image = np.empty((image_size, image_size, 3), np.float64)
    # A slow change of brightness across the image, in a random direction.
    slope = rng.uniform(-25, 25, size=2)
    ramp = np.linspace(-0.5, 0.5, image_size)
    image[:] = background
    image += (slope[0] * ramp[:, None] + slope[1] * ramp[None, :])[..., None]

    for _ in range(int(rng.integers(MIN_LINES, MAX_LINES + 1))):
        (x1, y1), (x2, y2) = ((int(v) for v in p) for p in rng.integers(image_size, size=(2, 2)))
        colour = [float(v) for v in rng.uniform(0, 255, size=3)]
        cv2.line(image, (x1, y1), (x2, y2), colour, int(rng.integers(1, 3)))

    for obj in objects:
        # The contrast to the background is drawn, not left to chance: from faint to strong.
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        contrast = rng.uniform(50, 150)
        image[obj.visible] = background + contrast * direction

    image += rng.normal(0, rng.uniform(2, 8), size=image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def render_scene(split: str, index: int, image_size: int = 128, seed: int = 0) -> Scene:
    """Draws one image of the set.

    The result depends on the arguments alone, so image 7 is the same in a set of 10 and in one
    of 10,000, and the splits share no random stream.

    Args:
        split: ``'train'`` or ``'val'``.
        index: Number of the image within its split, from 0.
        image_size: Side of the square image in pixels, at least 96.
        seed: Seed of the whole set, not negative.

    Returns:
        The image and its two to five objects.

    Raises:
        ValueError: If ``split`` is unknown or ``image_size`` too small.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got '{split}'.")
    if image_size < MIN_IMAGE_SIZE:
        raise ValueError(
            f'image_size is {image_size} pixels, which is too small for objects of up to '
            f'{2 * MAX_HALF_SIDE + 1} pixels: give at least {MIN_IMAGE_SIZE}.'
        )
    sequence = np.random.SeedSequence([seed, SPLITS.index(split), index])
    rng = np.random.default_rng(sequence)
    objects = _place_objects(rng, image_size)
    return Scene(_paint(rng, objects, image_size), objects)


def generate_shapes(
    out_dir: str | os.PathLike[str],
    num_train: int = 500,
    num_val: int = 150,
    image_size: int = 128,
    seed: int = 0,
    force: bool = False,
) -> bool:
    """Writes the set in COCO format, unless it is there already.

    Layout: ``train/000000.png ...``, ``val/000000.png ...``, ``annotations/train.json``,
    ``annotations/val.json``, and ``shapes.json`` with the parameters. ``shapes.json`` says whether the
    set is complete, so a generation that was interrupted is carried to its end by the next call.

    Args:
        out_dir: Folder of the set; made if it does not exist.
        num_train: Number of training images, at least 1.
        num_val: Number of validation images, at least 1.
        image_size: Side of the square images in pixels, at least 96.
        seed: Seed of the set, not negative.
        force: Make the set anew even if one with other parameters (or a complete one) is there.

    Returns:
        True if images were written, False if the complete set was there.

    Raises:
        ValueError: If an argument is out of range, or the folder holds a set with other
            parameters and ``force`` is False.
        FileExistsError: If the folder holds annotations that this function did not write.
    """
    if num_train < 1 or num_val < 1:
        raise ValueError(
            f'num_train and num_val must be at least 1, got {num_train} and {num_val}.'
        )
    if seed < 0:
        raise ValueError(f'seed must not be negative, got {seed}.')
    out = Path(out_dir)
    parameters = {
        'format': _FORMAT,
        'num_train': num_train,
        'num_val': num_val,
        'image_size': image_size,
        'seed': seed,
    }
    render_scene(
        'train', 0, image_size, seed
    )  # refuses a bad image_size before anything is written

    marker = out / 'shapes.json'
    found = _read_marker(marker)
    if found is None:
        foreign = [out / 'annotations' / f'{split}.json' for split in SPLITS]
        foreign = [path for path in foreign if path.exists()]
        if foreign:
            raise FileExistsError(
                f'{foreign[0]} exists, but {marker} does not, so it belongs to another dataset: '
                'give an empty folder.'
            )
    elif not force:
        different = [
            f'{key} is {found["parameters"].get(key)}, asked for is {value}'
            for key, value in parameters.items()
            if found['parameters'].get(key) != value
        ]
        if different:
            raise ValueError(
                f'{out} holds a shapes set with other parameters ({"; ".join(different)}): '
                'use force=True (--force on the command line) to replace it, or another folder.'
            )
        if found['complete'] and _all_files_exist(out, num_train, num_val):
            return False
    else:
        _remove_images(out)

    write_json_atomically(marker, {'parameters': parameters, 'complete': False})
    annotations = {
        split: _write_images(out, split, count, image_size, seed)
        for split, count in zip(SPLITS, (num_train, num_val), strict=True)
    }
    for split, content in annotations.items():
        write_json_atomically(out / 'annotations' / f'{split}.json', content)
    write_json_atomically(marker, {'parameters': parameters, 'complete': True})
    return True


def _read_marker(marker: Path) -> dict[str, Any] | None:
    if not marker.exists():
        return None
    try:
        content = json.loads(marker.read_text())
        return {'parameters': dict(content['parameters']), 'complete': bool(content['complete'])}
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f'{marker} is not a description of a shapes set: delete the folder or give another.'
        ) from None


def _file_name(index: int) -> str:
    return f'{index:06d}.png'


def _all_files_exist(out: Path, num_train: int, num_val: int) -> bool:
    return all(
        (out / 'annotations' / f'{split}.json').is_file()
        and all((out / split / _file_name(index)).is_file() for index in range(count))
        for split, count in zip(SPLITS, (num_train, num_val), strict=True)
    )


def _remove_images(out: Path) -> None:
    """Removes the images of an earlier, perhaps larger, set; nothing but our own file names."""
    for split in SPLITS:
        for path in (out / split).glob('[0-9]' * 6 + '.png'):
            path.unlink()


def _write_images(out: Path, split: str, count: int, image_size: int, seed: int) -> dict[str, Any]:
    folder = out / split
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for index in range(count):
        scene = render_scene(split, index, image_size, seed)
        path = folder / _file_name(index)
        if not cv2.imwrite(str(path), scene.image):
            raise OSError(f'{path} could not be written: check the folder and the free space.')
        images.append(
            {
                'id': index + 1,
                'file_name': path.name,
                'width': image_size,
                'height': image_size,
                'license': 1,
            }
        )
        for obj in scene.objects:
            objects.append(
                {
                    'id': len(objects) + 1,
                    'image_id': index + 1,
                    'category_id': obj.label + 1,
                    'bbox': list(obj.bbox),
                    'area': int(obj.mask.sum()),
                    'iscrowd': 0,
                }
            )
    return {
        'info': {
            'description': 'Drawn shapes: rectangles, ellipses, triangles, crosses and rings.',
            'version': str(_FORMAT),
            'split': split,
            'seed': seed,
        },
        'licenses': [{'id': 1, 'name': 'Apache-2.0', 'url': ''}],
        'images': images,
        'annotations': objects,
        'categories': [
            {'id': label + 1, 'name': name, 'supercategory': 'shape'}
            for label, name in enumerate(SHAPES_CLASSES)
        ],
    }
