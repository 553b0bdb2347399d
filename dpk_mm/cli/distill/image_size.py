"""Another image size: all sizes in pipelines, hooks and preprocessors of a config, scaled by one factor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config

from ...errors import UsageError
from .datasets import innermost

#: Arguments of transforms that are sizes in pixels.
_SIZES = {
    *('scale', 'scales', 'img_scale', 'crop_size', 'size', 'border', 'random_size_range'),
    *('image_size', 'img_size', 'resize_size', 'input_size', 'test_size'),
}
#: Smaller numbers are no sizes in pixels: ``scale=(0.08, 1.0)``.
_LEAST = 16


def image_size(cfg: Config) -> int:
    """The side that images have in a test: the shorter one of ``(1333, 800)``, the crop of a classifier.

    Where the test does not say it, as with CenterNet, it is that of the training.

    Raises:
        UsageError: If no pipeline says it.
    """
    for loader in (cfg.test_dataloader, cfg.train_dataloader):
        found = _sizes(innermost(loader.dataset)[0].get('pipeline') or ())
        for key in ('crop_size', 'scale', 'size'):
            if key in found:
                return found[key]
    raise UsageError(
        f'--img-size: the pipelines of {cfg.filename} have no size that could be changed: leave the option out, and '
        'change the pipelines in a config of your own.'
    )


def _sizes(pipeline: Any) -> dict[str, int]:
    """The shorter side by the argument that says it, of the first transform of each kind."""
    found: dict[str, int] = {}
    for step in _steps(pipeline):
        for key in ('crop_size', 'scale', 'size'):
            value = step.get(key)
            values = value if isinstance(value, (list, tuple)) else (value,)
            numbers = [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
            if numbers and min(numbers) >= _LEAST:
                found.setdefault(key, min(numbers))
    return found


def set_image_size(cfg: Config, size: int) -> list[str]:
    """Scales all sizes of a config, in place.

    If the new size is a multiple of 32, all that were one stay one, since networks with several strides need it.

    Args:
        cfg: Of a plain model.
        size: The new side of a test image in pixels, the shorter one where there are two.

    Returns:
        The changed values, such as ``'scale (1333, 800) -> (427, 256)'``, each once.

    Raises:
        UsageError: If the network is made for its size.
    """
    anchors = cfg.model.get('bbox_head') or {}
    anchors = anchors.get('anchor_generator') or {} if isinstance(anchors, dict) else {}
    if isinstance(anchors, dict) and anchors.get('input_size'):
        raise UsageError(
            f'--img-size {size}: the anchors of {cfg.model.type} are made for images of {anchors["input_size"]} '
            'pixels: leave the option out, or take a network for another size.'
        )
    old = image_size(cfg)
    factor, step = size / old, 32 if size % 32 == 0 else 1
    if factor == 1:
        return []
    changed: dict[str, None] = {}
    places: list[Any] = [cfg.get(f'{name}_dataloader') for name in ('train', 'val', 'test')]
    places += [cfg.get('custom_hooks'), cfg.get('tta_pipeline')]
    places += [(cfg.model.get('data_preprocessor') or {}).get('batch_augments')]
    places += [(cfg.get('data_preprocessor') or {}).get('batch_augments')]
    seen: set[int] = set()
    for place in places:
        for node in _dicts(place):
            if id(node) in seen:
                continue
            seen.add(id(node))
            for key in _SIZES & node.keys():
                if (new := _scaled(node[key], factor, step)) != node[key]:
                    changed[f'{key} {_short(node[key])} -> {_short(new)}'] = None
                    node[key] = new
    backbone = cfg.model.get('backbone')
    if isinstance(backbone, dict) and backbone.get('img_size'):
        new = _scaled(backbone['img_size'], factor, step)
        changed[f'backbone.img_size {_short(backbone["img_size"])} -> {_short(new)}'] = None
        backbone['img_size'] = new
    return list(changed)


def _scaled(value: Any, factor: float, step: int) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_scaled(item, factor, step) for item in value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) < _LEAST:
        return value
    if value < 0 or value % step:
        return round(value * factor)
    return max(step, round(value * factor / step) * step)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 40 else f'{text[:36]}...'


def _steps(pipeline: Any) -> Iterator[Any]:
    for node in _dicts(pipeline):
        if 'type' in node:
            yield node


def _dicts(node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _dicts(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _dicts(value)
