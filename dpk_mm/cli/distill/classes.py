"""The number of classes in every head of a model's config."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from ...errors import UsageError
from .own_data import CLASSIFICATION, DETECTION, OwnData


def task_of(cfg: Config) -> str:
    """``'detection'`` or ``'classification'``, by what the model of a config is.

    Raises:
        UsageError: If it is neither.
    """
    scope = cfg.get('default_scope')
    model = cfg.get('model') or {}
    kind = str(model.get('type', ''))
    if 'architecture' in model:
        raise UsageError(
            f'{cfg.filename} is the config of a distillation: give that of a plain model, and a distillation to '
            'tools/train.py.'
        )
    if scope == 'mmdet':
        return DETECTION
    if scope == 'mmpretrain' and ('Classifier' in kind or 'head' in model):
        return CLASSIFICATION
    raise UsageError(
        f'{cfg.filename}: a detector of mmdet or a classifier of mmpretrain was expected, but default_scope is '
        f'{scope!r} and model.type {kind or "missing"}.'
    )


def count_classes(cfg: Config) -> int | None:
    """The ``num_classes`` of a model's heads: that of most of them; None if none says it."""
    counts = Counter(node['num_classes'] for _, node in _nodes(cfg.model) if _has_count(node))
    if not counts and _has_count(cfg.get('data_preprocessor') or {}):
        return cfg.data_preprocessor.num_classes
    return counts.most_common(1)[0][0] if counts else None


def set_classes(cfg: Config, data: OwnData) -> list[str]:
    """Sets the classes in all heads, losses and preprocessors of a model, in place.

    Args:
        cfg: Of a plain model.
        data: Whose classes are set.

    Returns:
        The keys that were changed.

    Raises:
        UsageError: If the model has no head whose classes could be set, or one for things and stuff.
    """
    places = [place for place, node in _nodes(cfg.model) if 'num_things_classes' in node]
    if places:
        raise UsageError(
            f'{cfg.filename}: {places[0]} is a panoptic head, which needs things and stuff; --data has boxes: take a '
            'detector of boxes.'
        )
    old, new = count_classes(cfg), len(data.classes)
    if old is None:
        raise UsageError(
            f'{cfg.filename}: no head of the model has num_classes, so the {new} classes of --data cannot be set.'
        )
    changed = []
    roots = [('model', cfg.model), ('data_preprocessor', cfg.get('data_preprocessor') or {})]
    for root, top in roots:
        for place, node in _nodes(top, root):
            if _has_count(node) and node['num_classes'] == old:
                node['num_classes'] = new
                changed.append(f'{place}.num_classes')
            if 'topk' in node and data.task == CLASSIFICATION and place.startswith('model.head'):
                node['topk'] = fitting_topk(node['topk'], new)
    return changed


def fitting_topk(topk: Any, classes: int) -> tuple[int, ...]:
    """The accuracies that there can be: top-5 needs more than five classes to say anything."""
    wanted = topk if isinstance(topk, (list, tuple)) else (topk,)
    return tuple(k for k in wanted if k < classes) or (1,)


def _has_count(node: Mapping[str, Any]) -> bool:
    return isinstance(node.get('num_classes'), int)


def _nodes(node: Any, place: str = 'model') -> Iterator[tuple[str, Any]]:
    """All dicts of a config, with their place."""
    if isinstance(node, dict):
        yield place, node
        for key, value in node.items():
            yield from _nodes(value, f'{place}.{key}')
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _nodes(value, f'{place}[{index}]')
