"""The size of the images in training, as the pipeline of a config says it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...checkpoint.type_names import type_name

Size = tuple[int, int]

# What puts images together or beside a margin, before the step that gives the network's size.
_COMPOSING = ('Mosaic', 'MixUp', 'Expand', 'RandomAffine', 'CopyPaste', 'MinIoURandomCrop')


def training_size(cfg: Mapping[str, Any]) -> Size | None:
    """The largest (height, width) that a batch has in training; None where no step of the pipeline says it.

    Steps that put images together (Mosaic, MixUp) or into a larger frame (Expand) say nothing of the network's input;
    of ``RandomChoice`` the largest branch counts. An image whose ratio is kept may lie or stand, so both sides are
    then the longer one. Padding of the batch is included.

    Args:
        cfg: A whole config.
    """
    dataset = (cfg.get('train_dataloader') or {}).get('dataset')
    size = None
    while isinstance(dataset, Mapping) and size is None:
        size = _after(dataset.get('pipeline') or (), None)
        inner = dataset.get('dataset') or dataset.get('datasets')
        dataset = inner[0] if isinstance(inner, Sequence) and inner else inner
    return size


def padded(size: Size, preprocessor: Mapping[str, Any] | None) -> Size:
    """The size with the padding of a batch by a ``data_preprocessor``."""
    settings = preprocessor or {}
    for step in settings.get('batch_augments') or ():
        if isinstance(step, Mapping) and type_name(step.get('type')) == 'BatchFixedSizePad':
            fixed = step.get('size', size)
            size = (max(size[0], fixed[0]), max(size[1], fixed[1]))
    return _round_up(size, settings.get('pad_size_divisor') or 1)


def _after(pipeline: Sequence[Any], size: Size | None) -> Size | None:
    for step in pipeline:
        if isinstance(step, Mapping):
            size = _step(step, size)
    return size


def _step(step: Mapping[str, Any], size: Size | None) -> Size | None:
    kind = type_name(step.get('type'))
    if any(name in kind for name in _COMPOSING):
        return size
    inner = step.get('transforms')
    if inner:
        if kind == 'RandomChoice':
            branches = [_after([b] if isinstance(b, Mapping) else b, size) for b in inner]
            return _largest([found for found in branches if found])
        return _after(inner, size)
    if 'Crop' in kind:
        return _cropped(step, kind, size)
    if kind == 'Pad':
        return _pad(step, size)
    if 'Resize' in kind and kind != 'ResizeEdge':
        return _resized(step) or size
    if kind == 'ResizeEdge':  # the other edge is not known: a crop follows
        edge = step.get('scale')
        return (edge, edge) if isinstance(edge, int) else size
    return size


def _resized(step: Mapping[str, Any]) -> Size | None:
    scales = step.get('scale', step.get('scales', step.get('img_scale')))
    if isinstance(scales, int):
        scales = (scales, scales)
    if not isinstance(scales, Sequence) or not scales:
        return None
    pairs = [(s, s) if isinstance(s, int) else tuple(s) for s in scales]
    if all(isinstance(s, int) for s in scales) and len(scales) == 2:
        pairs = [tuple(scales)]
    factor = max(step.get('ratio_range') or (1.0,))
    # a config says (width, height)
    size = _largest([(round(h * factor), round(w * factor)) for w, h in pairs])
    if size and step.get('keep_ratio', (step.get('resize_cfg') or {}).get('keep_ratio', False)):
        size = (max(size), max(size))
    return size


def _cropped(step: Mapping[str, Any], kind: str, size: Size | None) -> Size | None:
    if str(step.get('crop_type', 'absolute')).startswith('relative'):
        return size
    crop = step.get('crop_size', step.get('scale', step.get('size')))
    if isinstance(crop, int):
        crop = (crop, crop)
    if not (
        isinstance(crop, Sequence) and len(crop) == 2 and all(isinstance(s, int) for s in crop)
    ):
        return size
    if step.get('crop_type') == 'absolute_range':
        crop = (max(crop), max(crop))
    found = (int(crop[0]), int(crop[1]))
    if size is None or 'Resized' in kind or 'Pad' in kind:
        return found
    return min(size[0], found[0]), min(size[1], found[1])


def _pad(step: Mapping[str, Any], size: Size | None) -> Size | None:
    given = step.get('size')
    if given is not None:
        width, height = (given, given) if isinstance(given, int) else given
        size = (max(height, size[0]), max(width, size[1])) if size else (height, width)
    if size and step.get('pad_to_square'):
        size = (max(size), max(size))
    return _round_up(size, step.get('size_divisor') or 1) if size else None


def _round_up(size: Size, divisor: int) -> Size:
    return (math.ceil(size[0] / divisor) * divisor, math.ceil(size[1] / divisor) * divisor)


def _largest(sizes: Sequence[Size]) -> Size | None:
    return (max(s[0] for s in sizes), max(s[1] for s in sizes)) if sizes else None
