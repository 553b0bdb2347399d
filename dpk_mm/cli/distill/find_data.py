"""Where the parts of a data set are: the usual layouts of folders of COCO files and of class folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import UsageError, first_few
from .image_folders import class_folders, has_images

#: Names of the parts, and what folders and files call them.
PARTS = {'train': ('train',), 'val': ('val', 'valid'), 'test': ('test',)}

_LAYOUTS = (
    'annotations/train.json and annotations/val.json beside images/ (COCO), two COCO files, or train/ and val/ with a '
    'folder of images for each class'
)


@dataclass
class Found:
    """The places of a data set.

    Attributes:
        task: ``'detection'`` or ``'classification'``.
        files: COCO file of each part.
        images: Folders in which the images of a part may be, the likeliest first.
        folders: Folder of class folders of each part.
    """

    task: str
    files: dict[str, Path] = field(default_factory=dict)
    images: dict[str, list[Path]] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)


def find_parts(paths: Sequence[str], images: Sequence[str] = ()) -> Found:
    """Finds training, validation and test.

    Args:
        paths: One folder, or two or three COCO files: training, validation, test.
        images: Folders of the images, one for all files or one for each; by default they are looked for.

    Raises:
        UsageError: If there is no such path, or its layout is none that is known.
    """
    given = [Path(path) for path in paths]
    for path in given:
        if not path.exists():
            raise UsageError(f'--data {path} does not exist: give {_LAYOUTS}.')
    for path in map(Path, images):
        if not path.is_dir():
            raise UsageError(
                f'--images {path} is no folder: the folder of the images was expected.'
            )
    if all(path.is_file() for path in given):
        return _of_files(given, [Path(path) for path in images])
    if len(given) != 1:
        raise UsageError(
            f'--data takes one folder, or two or three COCO files, but got {" ".join(map(str, given))}.'
        )
    folder = given[0]
    files = dict(_coco_files(folder))
    if files:
        _require_different(files, folder)
        _require_both(files, folder)
        roots = [Path(path) for path in images]
        return _with_images(files, roots, folder)
    _refuse_other_boxes(folder)
    folders = {
        part: folder / name
        for part, names in PARTS.items()
        for name in reversed(names)
        if class_folders(folder / name)
    }
    if folders:
        _require_both(folders, folder)
        if images:
            raise UsageError(
                f'--images is for COCO files, but {folder} holds class folders: leave it out.'
            )
        return Found('classification', folders=folders)
    inside = [path.name for path in sorted(folder.iterdir())]
    if class_folders(folder) or has_images(folder):
        raise UsageError(
            f'--data {folder} holds {first_few(inside)}, but which images are for training and which for validation '
            'is not clear: put the class folders into train/ and val/ inside of it.'
        )
    raise UsageError(
        f'--data {folder} holds {first_few(inside) or "nothing"}: {_LAYOUTS} was expected.'
    )


def _refuse_other_boxes(folder: Path) -> None:
    """The layouts of YOLO and Pascal VOC would look like class folders of the names images and labels."""
    yolo = [folder / 'labels', *folder.glob('*/labels'), *folder.glob('labels/*')]
    voc = [folder / 'Annotations', *folder.glob('*/Annotations')]
    beside = [folder, *(folder / name for names in PARTS.values() for name in names)]
    for kind, suffix, places in (
        ('YOLO', '.txt', [place for place in yolo if not has_images(place)]),
        ('Pascal VOC', '.xml', [place for place in voc if not has_images(place)]),
        ('Pascal VOC', '.xml', [place for place in beside if not class_folders(place)]),
    ):
        for place in places:
            file = min(place.glob(f'*{suffix}'), default=None)
            if file is not None:
                raise UsageError(
                    f'--data {folder}: {file} looks like boxes of {kind}, which are not read: convert them to COCO, '
                    'annotations/train.json and annotations/val.json beside images/.'
                )


def _of_files(files: list[Path], images: list[Path]) -> Found:
    for file in files:
        if file.suffix != '.json':
            raise UsageError(f'--data {file}: a COCO file (.json) or a folder was expected.')
    if len(files) == 1:
        raise UsageError(
            f'--data {files[0]} is one file, of training: add the COCO file of the validation images, '
            '--data TRAIN.json VAL.json.'
        )
    if len(files) > 3:
        raise UsageError(
            f'--data takes the COCO files of training, validation and test, but got {len(files)}.'
        )
    if len(images) not in (0, 1, len(files)):
        raise UsageError(
            f'--images takes one folder, or one for each of the {len(files)} files of --data, but got {len(images)}.'
        )
    named = dict(zip(PARTS, files, strict=False))
    found = Found('detection', files=named)
    for number, (part, file) in enumerate(named.items()):
        own = (
            [images[number if len(images) > 1 else 0]]
            if images
            else _candidates(part, file, file.parent.parent)
        )
        found.images[part] = own
    return found


def _coco_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """COCO files by part: ``annotations/*train*.json``, ``train.json``, ``train/_annotations.coco.json``."""
    for part, names in PARTS.items():
        places = [folder / 'annotations', folder, *(folder / name for name in names)]
        found = [
            file
            for place in places
            if place.is_dir()
            for file in sorted(place.glob('*.json'))
            if place.name in names or any(name in file.stem for name in names)
        ]
        # person_keypoints_* and captions_* lie beside instances_* in COCO itself
        instances = [file for file in found if 'instances' in file.stem] or found
        if len(instances) > 1:
            raise UsageError(
                f'--data {folder}: which file is that of {part} is not clear ({first_few(instances)}): name the '
                'files, --data TRAIN.json VAL.json.'
            )
        if instances:
            yield part, instances[0]


def _require_different(files: dict[str, Path], folder: Path) -> None:
    """One name may hold those of two parts: trainval.json, latest_train.json."""
    parts = {file: [p for p, other in files.items() if other == file] for file in files.values()}
    for file, names in parts.items():
        if len(names) > 1:
            raise UsageError(
                f'--data {folder}: {file} has the name of {" and ".join(names)}: name the files, --data TRAIN.json '
                'VAL.json, of different images.'
            )


def _require_both(found: dict[str, Path], folder: Path) -> None:
    for part in ('train', 'val'):
        if part not in found:
            there = first_few(f'{path}' for path in found.values())
            raise UsageError(
                f'--data {folder}: there is {there}, but nothing for {part}; {_LAYOUTS} was expected.'
            )


def _with_images(files: dict[str, Path], images: list[Path], folder: Path) -> Found:
    found = Found('detection', files=files)
    if len(images) not in (0, 1, len(files)):
        raise UsageError(
            f'--images takes one folder, or one for each of the {len(files)} files of --data, but got {len(images)}.'
        )
    for number, (part, file) in enumerate(files.items()):
        if images:
            found.images[part] = [images[number if len(images) > 1 else 0]]
        else:
            found.images[part] = _candidates(part, file, folder)
    return found


def _candidates(part: str, file: Path, folder: Path) -> list[Path]:
    """Folders in which the images of a COCO file usually are."""
    names = [file.stem.rpartition('_')[2], file.stem, *PARTS[part]]
    below = [folder / 'images', folder, file.parent]
    places = [*(base / name for base in (folder / 'images', folder) for name in names), *below]
    return [place for place in dict.fromkeys(places) if place.is_dir()]
