"""Small data sets of the kinds that users have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def coco_content(
    count: int = 4, classes: tuple[str, ...] = ('cat', 'dog'), start: int = 0
) -> dict[str, Any]:
    """A COCO file of images of 64x48 pixels with one box each."""
    return dict(
        images=[
            dict(id=i, file_name=f'{start + i}.png', width=64, height=48) for i in range(count)
        ],
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(classes)],
        annotations=[
            dict(
                id=i + 1,
                image_id=i,
                category_id=i % len(classes) + 1,
                bbox=[8, 8, 32, 24],
                area=32 * 24,
                iscrowd=0,
            )
            for i in range(count)
        ],
    )


def write_images(folder: Path, names: list[str]) -> None:
    """Noise of 64x48 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for name in names:
        Image.fromarray(generator.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(folder / name)


def write_coco(
    folder: Path, train: dict[str, Any] | None = None, val: dict[str, Any] | None = None
) -> Path:
    """``annotations/`` with train.json and val.json, and ``images/``."""
    contents = dict(train=train or coco_content(), val=val or coco_content(2, start=100))
    for part, content in contents.items():
        file = folder / 'annotations' / f'{part}.json'
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
        write_images(folder / 'images', [image['file_name'] for image in content.get('images', [])])
    return folder


def write_class_folders(folder: Path, classes: tuple[str, ...] = ('ant', 'bee', 'cow')) -> Path:
    """``train/`` and ``val/`` with a folder of two images for each class."""
    for part in ('train', 'val'):
        for name in classes:
            write_images(folder / part / name, ['0.png', '1.png'])
    return folder
