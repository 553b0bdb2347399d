"""Base configs that have another place now: inheriting the old one says which."""

from __future__ import annotations

import re

_PAIRS = (
    '_base_/pairs/coco_{0}_r101_r50.py (networks, teacher, schedule); the losses stand in '
    'configs/{1}/{0}_r101_r50.py'
)

MOVED: dict[str, str] = {
    **{
        f'{detector}_{method}.py': _PAIRS.format(detector, method)
        for detector in ('faster_rcnn', 'retinanet')
        for method in ('fgd', 'dpk')
    },
    'cifar100_dpk.py': '_base_/cifar100.py (data, schedule), and a pair of _base_/pairs/cifar100/',
    'cifar100_dpk_small_maps.py': '_base_/cifar100.py; sizes of positions come from dpk_mm.models.pairs',
    'imagenet_dpk.py': '_base_/imagenet.py (data, schedule), and a pair of _base_/pairs/imagenet/',
    **{
        f'imagenet_dpk_{part}.py': f'_base_/imagenet_{part}.py'
        for part in ('adamw', 'cait_deit', 'convnext', 'convnext_e', 'efficientnet')
    },
}


def explain_missing_base(error: FileNotFoundError) -> str | None:
    """The sentence for a base config of an earlier release.

    Args:
        error: What reading a config raised.

    Returns:
        Where its content is now; None if the missing file is no such config.
    """
    match = re.search(r'_base_[/\\\\](\w+\.py)', str(error))
    if match is None or match[1] not in MOVED:
        return None
    return (
        f'_base_: configs/_base_/{match[1]} is now {MOVED[match[1]]}. A config that inherits a leaf, such as '
        'configs/dpk/faster_rcnn_r101_r50.py, needs no change; see docs/configuration.md.'
    )
