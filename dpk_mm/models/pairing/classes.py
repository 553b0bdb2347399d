"""The classes that a config's data have, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine import list_from_file
from mmengine.config import Config
from mmengine.registry import DATASETS


def class_names(cfg: Config | None) -> list[str] | None:
    """The names of the classes of ``train_dataloader.dataset``; None where nothing says them.

    They are those of its ``metainfo``, else those of ``classes``, which mmpretrain's data sets take, a list or a file
    with a name in each line, else those of the class of the data set.

    Args:
        cfg: A whole config, or None.
    """
    dataset: Any = ((cfg or {}).get('train_dataloader') or {}).get('dataset')
    while isinstance(dataset, Mapping):
        metainfo = dataset.get('metainfo') or {}
        found = metainfo.get('classes') or metainfo.get('CLASSES')
        if found is None and dataset.get('classes') is not None:
            found = _listed(dataset['classes'])
        elif found is None and dataset.get('type'):
            kind = dataset['type']
            kind = DATASETS.get(_with_scope(kind, cfg)) if isinstance(kind, str) else kind
            meta = getattr(kind, 'METAINFO', None) or {}
            found = meta.get('classes') or meta.get('CLASSES')
        if isinstance(found, Sequence) and not isinstance(found, str):
            return [str(name) for name in found]
        inner = dataset.get('dataset') or dataset.get('datasets')
        dataset = inner[0] if isinstance(inner, Sequence) and inner else inner
    return None


def _listed(classes: Any) -> Any:
    if not isinstance(classes, str):
        return classes
    file = Path(classes).expanduser()
    # a teacher's need not be here: the classes are then not known
    return list_from_file(str(file)) if file.is_file() else None


def _with_scope(kind: str, cfg: Config | None) -> str:
    scope = (cfg or {}).get('default_scope')
    return kind if '.' in kind or not scope else f'{scope}.{kind}'


def first_difference(own: Sequence[str] | None, given: Sequence[str] | None) -> str | None:
    """In words where two lists of classes differ first; None if they are equal or one is not known."""
    if own is None or given is None or list(own) == list(given):
        return None
    if len(own) != len(given):
        return f'{len(own)} classes here and {len(given)} of the teacher'
    place = next(i for i, (a, b) in enumerate(zip(own, given, strict=True)) if a != b)
    return f'number {place} is {own[place]} here and {given[place]} of the teacher'
