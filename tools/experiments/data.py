"""Data sets of the experiments: found, unpacked and split; nothing is downloaded."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpk_mm.errors import UsageError
from dpk_mm.fileio import write_json_atomically, write_text_atomically

from ..shapes import generate_shapes

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
        spec: ``kind``, one of ``KINDS`` or ``DRAWN``, and arguments of its function; empty for configs that name
            their data themselves.
        source: Folder of the data; it is only read, and not needed for a drawn set.
        folder: What has to be unpacked or split goes to a folder in here, one for each source and ``spec``: grids
            of different sets may share a work folder, and trainings read their lists while others are written. A drawn
            set has that of its kind, and refuses other arguments than those that it was drawn with.

    Returns:
        ``--cfg-options`` that point a config to the data.

    Raises:
        UsageError: If the kind is unknown, or the data is not in ``source``.
    """
    if not spec:
        return {}
    arguments = dict(spec)
    kind = arguments.pop('kind', None)
    if kind not in KINDS and kind not in DRAWN:
        raise UsageError(
            f"the grid's data.kind is {kind!r}; known are {', '.join([*KINDS, *DRAWN])}"
        )
    if kind in DRAWN:
        return DRAWN[kind](folder / kind, **arguments)
    if source is None:
        raise UsageError(f'this grid needs the {kind} data: give its folder with --data')
    return KINDS[kind](Path(source), folder / _folder_name(spec, Path(source)), **arguments)


def _folder_name(spec: Mapping[str, Any], source: Path) -> str:
    """The kind, and what tells this data from others of its kind."""
    text = json.dumps([str(source.resolve()), dict(spec)], sort_keys=True)
    return f'{spec["kind"]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}'


def fashion_mnist(source: Path, folder: Path, num_val: int = 0) -> dict[str, Any]:
    """Takes the four IDX files of Fashion-MNIST, and unpacks them if they are gzipped.

    Args:
        source: Folder with the four files, or with the four ``.gz`` files.
        folder: Where they are unpacked.
        num_val: So many of the last training images are those of the validation; 0 leaves it to the config.

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
    options: dict[str, Any] = {
        f'{loader}.dataset.data_root': str(source.resolve()) for loader in LOADERS
    }
    if num_val:
        dataset = 'val_dataloader.dataset'
        options |= {f'{dataset}.split': 'train', f'{dataset}.test_mode': False}
        options[f'{dataset}.indices'] = -num_val
    return options


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


def image_folders(
    source: Path,
    folder: Path,
    every_class: int = 1,
    val: int = 50,
    subsets: Mapping[str, int] | None = None,
    split_seed: int = 0,
) -> dict[str, Any]:
    """Takes images in folders by class, ``train/CLASS/`` and ``test/CLASS/``, and writes lists of them.

    Settings are chosen on images taken from the training part; the test part is held out. The lists are those of
    mmpretrain's ``CustomDataset``: ``val.txt``, ``test.txt``, and one for each of ``subsets``, which begin with the
    same images, so that a smaller one is a part of a larger one. No image of ``val.txt`` is in one of them.

    Args:
        source: Folder with ``train`` and ``test``, or with a ``.tar`` or ``.tar.xz`` of these two, which is unpacked.
        folder: Where lists are written and an archive is unpacked.
        every_class: One of so many classes is taken, by their names in order.
        val: Images of each class to choose on.
        subsets: Name of a list -> training images of each class; by default ``train``, of all that are left.
        split_seed: Seed of the split.

    Returns:
        Options with the folders of the images and the lists.

    Raises:
        UsageError: If there are no such folders, or fewer images of a class than are asked for.
    """
    source = _unpacked(source, folder / 'images')
    classes = sorted(path.name for path in (source / 'train').iterdir() if path.is_dir())
    lists: dict[str, list[str]] = {name: [] for name in (*(subsets or ('train',)), 'val', 'test')}
    for label, name in enumerate(classes[::every_class]):
        files = _shuffled_files(source / 'train' / name, f'{split_seed} {name}')
        left = len(files) - val
        wanted = dict(subsets or dict(train=left))
        if left < max(1, *wanted.values()):
            raise UsageError(
                f'{source}/train/{name} has {len(files)} images, but {val} to choose on and '
                f'{max(1, *wanted.values())} to train on are asked for.'
            )
        lists['val'] += [f'{name}/{file} {label}' for file in files[:val]]
        for subset, number in wanted.items():
            lists[subset] += [f'{name}/{file} {label}' for file in files[val : val + number]]
        held_out = sorted(path.name for path in (source / 'test' / name).iterdir())
        lists['test'] += [f'{name}/{file} {label}' for file in held_out]
    for name, lines in lists.items():
        write_text_atomically(folder / 'lists' / f'{name}.txt', '\n'.join(lines) + '\n')
    options: dict[str, Any] = {}
    for loader, part in zip(LOADERS, ('train', 'train', 'test'), strict=True):
        options[f'{loader}.dataset.data_root'] = str((folder / 'lists').resolve())
        options[f'{loader}.dataset.data_prefix.img_path'] = str((source / part).resolve())
    return options


def _shuffled_files(folder: Path, seed: str) -> list[str]:
    files = sorted(path.name for path in folder.iterdir())
    random.Random(seed).shuffle(files)
    return files


def _unpacked(source: Path, target: Path) -> Path:
    """A folder with ``train`` and ``test``: the source itself, or what its archive holds."""
    parts = ('train', 'test')
    for found in (source, target):
        if all((found / part).is_dir() for part in parts):
            return found
    archives = sorted([*source.glob('*.tar'), *source.glob('*.tar.xz'), *source.glob('*.tar.gz')])
    if len(archives) != 1:
        raise UsageError(
            f'{source} has no folders train/CLASS and test/CLASS, and {len(archives) or "no"} archives of them; give '
            'the folder that has.'
        )
    temporary = target.with_name(f'.{target.name}.{os.getpid()}.tmp')
    try:
        with tarfile.open(archives[0]) as archive:
            archive.extractall(temporary, filter='data')
        if not all((temporary / part).is_dir() for part in parts):
            raise UsageError(f'{archives[0]} holds no folders train and test.')
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def drawn_shapes(folder: Path, num_held_out: int = 300) -> dict[str, Any]:
    """Draws the set of shapes of the quickstart, and more images that are held out.

    Args:
        folder: Where both are drawn, unless they are there.
        num_held_out: Images of the latter, drawn with another seed.

    Returns:
        Options with images and annotation files of the three parts.
    """
    options: dict[str, Any] = {}
    generate_shapes(folder / 'set')
    generate_shapes(folder / 'held_out', num_train=1, num_val=num_held_out, seed=1)
    for part, name, split in (
        ('train', 'set', 'train'),
        ('val', 'set', 'val'),
        ('test', 'held_out', 'val'),
    ):
        root = (folder / name).resolve()
        options[f'{part}_dataloader.dataset.data_root'] = f'{root}/'
        options[f'{part}_dataloader.dataset.data_prefix.img'] = f'{split}/'
        options[f'{part}_dataloader.dataset.ann_file'] = f'annotations/{split}.json'
        if part != 'train':
            options[f'{part}_evaluator.ann_file'] = f'{root}/annotations/{split}.json'
    return options


KINDS = {'fashion_mnist': fashion_mnist, 'coco_split': coco_split, 'image_folders': image_folders}
DRAWN = {'shapes': drawn_shapes}
