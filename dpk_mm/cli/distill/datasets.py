"""A user's data set in the data loaders and evaluators of a zoo config."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from ...errors import UsageError
from ...fileio import write_text_atomically
from ...models.pairing import Row
from .classes import fitting_topk
from .data_part import Part
from .own_data import CLASSIFICATION, OwnData


def set_datasets(cfg: Config, data: OwnData, folder: Path) -> list[Row]:
    """Sets data sets and evaluators of training, validation and test, in place.

    The pipelines stay. Where there is no test part, the test is that of validation.

    Args:
        cfg: Of a plain model.
        data: The data set.
        folder: Where corrected copies of annotation files are written.

    Returns:
        What was chosen besides.

    Raises:
        UsageError: If the config has no such loaders, needs masks that the data have not, or a copy would replace a
            file of the data.
    """
    for name in ('train', 'val', 'test'):
        if cfg.get(f'{name}_dataloader') is None:
            raise UsageError(f'{cfg.filename} has no {name}_dataloader: take another config.')
    rows = _set_channels(cfg, data)
    test = 'test' if 'test' in data.parts else 'val'
    for loader, part in (('train', 'train'), ('val', 'val'), ('test', test)):
        node = cfg[f'{loader}_dataloader']
        own = _own(data, data.parts[part], part, folder)
        node.dataset = _replaced(node.dataset, own, loader)
        if loader != 'train':
            evaluator = cfg.get(f'{loader}_evaluator')
            cfg[f'{loader}_evaluator'] = _evaluator(evaluator, data, own)
    if needs_masks(cfg) and not data.masks:
        raise UsageError(
            f'{cfg.filename} learns masks, but not all boxes of --data have a segmentation: take a detector of boxes, '
            'such as Faster R-CNN for Mask R-CNN.'
        )
    return rows


def innermost(dataset: Any) -> list[Any]:
    """The data sets that read files, inside those that repeat, join or mix."""
    if isinstance(dataset.get('dataset'), dict):
        return innermost(dataset['dataset'])
    if isinstance(dataset.get('datasets'), (list, tuple)):
        return [inner for part in dataset['datasets'] for inner in innermost(part)]
    return [dataset]


def needs_masks(cfg: Config) -> bool:
    """Whether a detector learns masks."""
    text = str(cfg.train_dataloader)
    return "'with_mask': True" in text or 'mask_head' in str(cfg.model)


def _own(data: OwnData, part: Part, name: str, folder: Path) -> dict[str, Any]:
    """The arguments of the data set that come from the user's files."""
    if data.task == CLASSIFICATION:
        root, prefix = part.images.parent, part.images.name
        return dict(type='CustomDataset', data_root=f'{root}/', data_prefix=prefix, with_label=True)
    assert part.ann_file is not None
    file, images = part.ann_file, part.images
    if part.content is not None:
        file = folder / f'{name}.json'
        if any(p.ann_file and p.ann_file.resolve() == file.resolve() for p in data.parts.values()):
            raise UsageError(
                f'--data {part.ann_file}: the corrected copy of {name} would replace {file}: name another folder with '
                '--work-dir.'
            )
        write_text_atomically(file, json.dumps(part.content))
    root = os.path.commonpath([file.absolute(), images.absolute()])
    meta = dict(metainfo=dict(classes=data.classes))
    kind = dict(type='CocoDataset')
    # as the user wrote it, if both are in one folder
    shown = next((p for p in (file.parent, *file.parents) if str(p.absolute()) == root), None)
    if shown is None or part.content is not None or str(shown) in ('/', '.'):
        prefix = f'{images.absolute()}/' if part.content is not None else f'{images}/'
        ann_file = str(file.absolute()) if part.content is not None else str(file)
        return dict(kind, data_root='', ann_file=ann_file, data_prefix=dict(img=prefix), **meta)
    inner = os.path.relpath(images.absolute(), root)
    return dict(
        kind,
        data_root=f'{shown}/',
        ann_file=os.path.relpath(file.absolute(), root),
        data_prefix=dict(img='' if inner == '.' else f'{inner}/'),
        **meta,
    )


def _replaced(dataset: Any, own: dict[str, Any], loader: str) -> ConfigDict:
    """The data set of a loader, with the user's in the innermost place; joined sets become one."""
    if isinstance(dataset.get('dataset'), dict):
        dataset = ConfigDict(dataset)
        dataset['dataset'] = _replaced(dataset['dataset'], own, loader)
        return dataset
    if isinstance(dataset.get('datasets'), (list, tuple)):
        return _replaced(innermost(dataset)[0], own, loader)
    kept = {}
    if own['type'] == 'CocoDataset':
        if dataset.get('filter_cfg') and loader == 'train':
            empty = dataset['filter_cfg'].get('filter_empty_gt', True)
            kept = dict(filter_cfg=dict(filter_empty_gt=empty, min_size=1))
        if loader != 'train':
            kept = dict(test_mode=True)
    if 'backend_args' in dataset:
        kept['backend_args'] = dataset['backend_args']
    return ConfigDict(**own, **kept, pipeline=_reading(dataset, own))


def _reading(dataset: Any, own: dict[str, Any]) -> list[Any]:
    """The pipeline; that of a data set of arrays, such as CIFAR, gets what reads a file."""
    pipeline = list(dataset.get('pipeline') or ())
    if own['type'] == 'CocoDataset' or _reads_files(pipeline):
        return pipeline
    return [dict(type='LoadImageFromFile'), dict(type='Resize', scale=32), *pipeline]


def _reads_files(pipeline: Sequence[Any]) -> bool:
    return any('LoadImage' in str(step.get('type')) for step in pipeline)


def _set_channels(cfg: Config, data: OwnData) -> list[Row]:
    """CIFAR's arrays are RGB, which its configs leave as they are; files are read as BGR."""
    (dataset, *_) = innermost(cfg.train_dataloader.dataset)
    arrays = str(dataset.get('type')).rpartition('.')[2] in ('CIFAR10', 'CIFAR100')
    of_files = data.task != CLASSIFICATION or _reads_files(dataset.get('pipeline') or ())
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor')
    if not arrays or of_files or preprocessor is None or preprocessor.get('to_rgb'):
        return []
    preprocessor['to_rgb'] = True
    why = f'image files are read as BGR, the arrays of {dataset.type} are RGB'
    return [Row('data_preprocessor.to_rgb', 'True', why)]


def _evaluator(evaluator: Any, data: OwnData, own: dict[str, Any]) -> Any:
    if data.task == CLASSIFICATION:
        several = isinstance(evaluator, (list, tuple))
        metrics = [ConfigDict(metric) for metric in (evaluator if several else [evaluator or {}])]
        for metric in metrics:
            metric.setdefault('type', 'Accuracy')
            if 'topk' in metric:
                metric['topk'] = fitting_topk(metric['topk'], len(data.classes))
        return metrics if several else metrics[0]
    metric = evaluator[0] if isinstance(evaluator, (list, tuple)) else evaluator
    ann_file = os.path.join(own['data_root'], own['ann_file'])
    if isinstance(metric, dict) and str(metric.get('type', '')).rpartition('.')[2] == 'CocoMetric':
        kept = {
            k: v
            for k, v in metric.items()
            if k not in ('ann_file', 'format_only', 'outfile_prefix')
        }
        return ConfigDict(kept, ann_file=ann_file)
    return ConfigDict(type='CocoMetric', metric='bbox', ann_file=ann_file)
