"""Test-time augmentation: predictions on changed copies of an image, merged (``tools/test.py --tta``)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config, ConfigDict

from ...checkpoint.type_names import type_name
from ...errors import UsageError

# What the tools of the two packages take where the config does not say it.
_MERGING = {
    'mmdet': dict(
        type='DetTTAModel',  # mmdet registers it with mmengine
        tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100),
    ),
    'mmpretrain': dict(type='mmpretrain.AverageClsScoreTTA'),
}
# Without these, merging could not turn the boxes of a flipped image back.
_META = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction')


def enable_tta(cfg: Config) -> None:
    """Wraps the model in one that merges predictions, and gives the test data the pipeline for it, in place.

    ``tta_model`` and ``tta_pipeline`` of the config say how; what it does not say is what mmdet's and mmpretrain's
    tools take: flipped images beside the others, boxes merged by NMS or class scores averaged.

    Args:
        cfg: A config of a plain model, with ``test_dataloader``.

    Raises:
        UsageError: If the package has no such default, or a pipeline does not end in what packs the inputs.
    """
    if 'tta_model' not in cfg:
        scope = cfg.get('default_scope')
        if scope not in _MERGING:
            raise UsageError(
                f'--tta: with default_scope = {scope!r} there is no usual way to merge predictions: set tta_model in '
                "the config, such as dict(type='DetTTAModel', ...), and tta_pipeline."
            )
        cfg.tta_model = _MERGING[scope]
    datasets = list(_innermost(cfg.test_dataloader.dataset))
    for dataset in datasets:
        dataset.pipeline = (
            copy.deepcopy(cfg.tta_pipeline) if 'tta_pipeline' in cfg else _flipping(dataset)
        )
    preprocessor = cfg.model.get('data_preprocessor')
    # or the Runner would give the wrapper, and the model with it, that at the top of the config
    if preprocessor:
        cfg.data_preprocessor = copy.deepcopy(preprocessor)
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def _innermost(dataset: Any) -> Iterator[ConfigDict]:
    """The data sets that read files, inside those that repeat, join or choose."""
    if isinstance(dataset.get('dataset'), dict):
        yield from _innermost(dataset.dataset)
    elif isinstance(dataset.get('datasets'), (list, tuple)):
        for part in dataset.datasets:
            yield from _innermost(part)
    else:
        yield dataset


def _flipping(dataset: ConfigDict) -> list[Any]:
    """The pipeline of a data set with a flipped copy of every image."""
    pipeline = copy.deepcopy(list(dataset.get('pipeline') or ()))
    packing = pipeline[-1] if pipeline else None
    if not isinstance(packing, dict) or 'Pack' not in type_name(packing.get('type')):
        raise UsageError(
            '--tta: test_dataloader.dataset.pipeline does not end in a transform that packs the inputs '
            '(PackDetInputs, PackInputs), so it cannot be extended: set tta_pipeline in the config.'
        )
    if type_name(packing['type']).endswith('PackDetInputs'):
        packing = dict(
            packing, meta_keys=tuple(dict.fromkeys((*packing.get('meta_keys', ()), *_META)))
        )
    flips = [dict(type='RandomFlip', prob=prob) for prob in (1.0, 0.0)]
    pipeline[-1] = dict(type='TestTimeAug', transforms=[flips, [packing]])
    return pipeline
