"""Some drawn images in place of a data set that is not there, so that a dry run is possible all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config, ConfigDict
from PIL import Image

from ...fileio import write_json_atomically, write_text_atomically
from .classes import count_classes
from .data_part import Part
from .datasets import innermost, set_datasets
from .own_data import DETECTION, OwnData

_COUNT = 8


def set_drawn_data(cfg: Config, task: str, folder: Path) -> None:
    """Lets a config read drawn images, in place; its classes stay.

    Args:
        cfg: Of a plain model or of a distillation.
        task: ``'detection'`` or ``'classification'``.
        folder: Where the images are written.
    """
    student = Config(dict(model=cfg.model.get('architecture', cfg.model)))
    if cfg.get('data_preprocessor'):
        student.data_preprocessor = cfg.data_preprocessor
    classes = count_classes(student) or 1
    images = folder / 'images'
    names = _draw(images)
    if task == DETECTION:
        file = folder / 'annotations.json'
        names_of_classes = tuple(f'class {number}' for number in range(classes))
        write_json_atomically(file, _annotations(names, names_of_classes))
        part = Part(images, len(names), len(names), file)
        parts = dict.fromkeys(('train', 'val', 'test'), part)
        set_datasets(cfg, OwnData(task, names_of_classes, parts, masks=True), folder)
        return
    lines = [f'{name} {number % classes}' for number, name in enumerate(names)]
    write_text_atomically(folder / 'list.txt', '\n'.join(lines) + '\n')
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg[key]
        pipeline = list(innermost(loader.dataset)[0]['pipeline'])
        if not any('LoadImage' in str(step.get('type')) for step in pipeline):
            pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=32), *pipeline]
        loader.dataset = ConfigDict(
            type='CustomDataset',
            data_root=f'{folder}/',
            data_prefix='images',
            ann_file='list.txt',
            metainfo=dict(classes=tuple(map(str, range(classes)))),
            pipeline=pipeline,
        )


def _draw(folder: Path) -> list[str]:
    """Noise with a bright rectangle; names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    names = []
    for number in range(_COUNT):
        pixels = generator.integers(0, 128, (240, 320, 3), dtype=np.uint8)
        pixels[60:180, 80:240] += 100
        names.append(f'{number}.png')
        Image.fromarray(pixels).save(folder / names[-1])
    return names


def _annotations(names: list[str], classes: tuple[str, ...]) -> dict[str, Any]:
    corners = [80, 60, 240, 60, 240, 180, 80, 180]
    return dict(
        images=[dict(id=i, file_name=name, width=320, height=240) for i, name in enumerate(names)],
        categories=[dict(id=i, name=name) for i, name in enumerate(classes)],
        annotations=[
            dict(
                id=i + 1,
                image_id=i,
                category_id=i % len(classes),
                bbox=[80, 60, 160, 120],
                area=160 * 120,
                iscrowd=0,
                segmentation=[corners],
            )
            for i in range(len(names))
        ],
    )
