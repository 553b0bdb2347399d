"""Data sets of the experiments: found, unpacked and split; nothing is downloaded."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpk_mm.errors import UsageError
from dpk_mm.fileio import write_json_atomically

IDX_FILES = tuple(
    f'{split}-{kind}-ubyte'
    for split in ('train', 't10k')
    for kind in ('images-idx3', 'labels-idx1')
)
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def prepare(
    spec: Mapping[str, Any], source: str | os.PathLike[str] | None, folder: Path
) -> dict[str, Any]:
    """Makes a data set ready for the configs.

    Args:
        spec: ``kind``, one of ``KINDS``, and arguments of its function; empty for configs that name
            their data themselves.
        source: Folder of the data; it is only read.
        folder: What has to be unpacked or split goes to a folder in here.

    Returns:
        ``--cfg-options`` that point a config to the data.

    Raises:
        UsageError: If the kind is unknown, or the data is not in ``source``.
    """
    if not spec:
        return {}
    arguments = dict(spec)
    kind = arguments.pop('kind', None)
    if kind not in KINDS:
        raise UsageError(f"the grid's data.kind is {kind!r}; known are {', '.join(KINDS)}")
    if source is None:
        raise UsageError(f'this grid needs the {kind} data: give its folder with --data')
    return KINDS[kind](Path(source), folder / kind, **arguments)


def fashion_mnist(source: Path, folder: Path) -> dict[str, Any]:
    """Takes the four IDX files of Fashion-MNIST, and unpacks them if they are gzipped.

    Args:
        source: Folder with the four files, or with the four ``.gz`` files.
        folder: Where they are unpacked.

    Returns:
        Options with the folder of the unpacked files.
    """
    if not all((source / name).is_file() for name in IDX_FILES):
        for name in IDX_FILES:
            packed = source / f'{name}.gz'
            if not packed.is_file():
                raise UsageError(
                    f'{source} holds neither {name} nor {packed.name}: give the folder of the four '
                    'IDX files of Fashion-MNIST'
                )
            _gunzip(packed, folder / name)
        source = folder
    return {f'{loader}.dataset.data_root': str(source.resolve()) for loader in LOADERS}


def _gunzip(packed: Path, target: Path) -> None:
    if target.is_file():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f'.{target.name}.{os.getpid()}.tmp')
    try:
        with gzip.open(packed, 'rb') as reader, open(temporary, 'wb') as writer:
            shutil.copyfileobj(reader, writer)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def coco_split(
    source: Path, folder: Path, num_val: int = 55, split_seed: int = 0
) -> dict[str, Any]:
    """Takes a COCO-format set with a training and a validation file, and keeps the latter back.

    Settings are chosen on images taken from the training file; the validation file is the held-out
    part, for ``tools/test.py``.

    Args:
        source: Folder with ``images/``, ``annotations/train.json`` and ``annotations/val.json``.
        folder: Where the annotation files of the parts are written.
        num_val: Images of the training file to choose on; the rest is trained on.
        split_seed: Seed of the split.

    Returns:
        Options with images and annotation files of the three parts.
    """
    for name in ('annotations/train.json', 'annotations/val.json', 'images'):
        if not (source / name).exists():
            raise UsageError(
                f'{source} has no {name}: expected are images/, annotations/train.json and '
                'annotations/val.json in COCO format'
            )
    content = json.loads((source / 'annotations' / 'train.json').read_text(encoding='utf-8'))
    train, val = split_annotations(content, num_val, split_seed)
    parts = {
        'train': train,
        'val': val,
        'test': json.loads((source / 'annotations' / 'val.json').read_text(encoding='utf-8')),
    }
    options: dict[str, Any] = {}
    for part, annotation in parts.items():
        file = (folder / f'{part}.json').resolve()
        write_json_atomically(file, annotation)
        dataset = f'{part}_dataloader.dataset'
        options[f'{dataset}.data_root'] = f'{source.resolve()}/'
        options[f'{dataset}.data_prefix.img'] = 'images/'
        options[f'{dataset}.ann_file'] = str(file)
        if part != 'train':
            options[f'{part}_evaluator.ann_file'] = str(file)
    return options


def split_annotations(
    content: Mapping[str, Any], num_val: int, seed: int = 0
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits a COCO annotation file by images.

    Args:
        content: With ``images``, ``annotations`` and whatever else, which both parts keep.
        num_val: Images of the second part.
        seed: Of the choice; it depends on the images' ids alone, not on their order.

    Returns:
        Both parts, the images in their order.

    Raises:
        UsageError: If one part would be empty.
    """
    ids = sorted(image['id'] for image in content['images'])
    if not 0 < num_val < len(ids):
        raise UsageError(f'num_val must be in 1..{len(ids) - 1} for these images, got {num_val}')
    chosen = set(random.Random(seed).sample(ids, num_val))

    def part(inside: bool) -> dict[str, Any]:
        return {
            **content,
            'images': [i for i in content['images'] if (i['id'] in chosen) == inside],
            'annotations': [
                a for a in content['annotations'] if (a['image_id'] in chosen) == inside
            ],
        }

    return part(False), part(True)


KINDS = {'fashion_mnist': fashion_mnist, 'coco_split': coco_split}
