"""Which levels of the pyramid hold the objects of a data set: where a loss on features can teach what is looked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config
from mmengine.registry import DATASETS
from torch import Tensor

from ..errors import UsageError
from .loading import PathLike, build_student, read_config, scope_of


@dataclass(frozen=True)
class ObjectLevels:
    """Where the boxes of some training images belong.

    Attributes:
        images: How many were looked at.
        boxes: How many they have, after the training pipeline.
        shares: ``'anchors'``, ``'points'`` or ``'second stage'`` -> stride of a level -> share of the boxes in [0, 1].
        dpk: Stage of DPK -> its stride, of a distillation with DPK on these levels.
    """

    images: int
    boxes: int
    shares: Mapping[str, Mapping[int, float]]
    dpk: Mapping[str, int]


def object_levels(config: PathLike | Config, images: int = 200) -> ObjectLevels:
    """Counts boxes by the level that the student's heads find them on.

    The images are spread evenly over the training set, and go through its pipeline, so that boxes have the size that
    the network sees. A box belongs to the level whose anchor, laid on its centre, has the largest IoU with it
    (``'anchors'``); of a head with ``regress_ranges`` to that whose range holds the largest distance from its centre to
    a side (``'points'``, FCOS); and of a two-stage detector also to that which its features are taken from (``'second
    stage'``, by the network's own rule).

    Args:
        config: Of a detector, distillation or not; its training data have to be there.
        images: How many at most.

    Raises:
        UsageError: If the model is no detector with such a head, the images have no boxes, or none is looked at.
    """
    if images < 1:
        raise UsageError(f'images must be at least 1, got {images}.')
    cfg = read_config(config, with_teacher=False)
    student = build_student(cfg)
    if not _assign(student, torch.empty(0, 4)):  # before any image is read
        raise UsageError(
            f'{cfg.filename}: {type(student).__name__} has no anchors, regress_ranges or second stage that say by its '
            'size which level a box belongs to; LossGradientHook(by_level=True) shows what each level gets.'
        )
    boxes, looked_at = _training_boxes(cfg, images)
    found = {
        name: _shares(levels, strides)
        for name, (levels, strides) in _assign(student, boxes).items()
    }
    return ObjectLevels(looked_at, len(boxes), found, _dpk_strides(cfg, student))


def _training_boxes(cfg: Config, images: int) -> tuple[Tensor, int]:
    """``[n, 4]`` corners of all boxes, and the number of images."""
    with scope_of(cfg):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    count = min(images, len(dataset))
    places = torch.linspace(0, len(dataset) - 1, count).round().long().tolist()
    found = []
    for place in places:
        boxes = getattr(dataset[place]['data_samples'], 'gt_instances', {}).get('bboxes')
        if boxes is None:
            raise UsageError(
                f'{cfg.filename}: the training images have no boxes; is this a detector?'
            )
        found.append(getattr(boxes, 'tensor', boxes).reshape(-1, 4).float())
    boxes = torch.cat(found)
    if not len(boxes):
        raise UsageError(
            f'{cfg.filename}: {count} training images have no box, so no level is needed.'
        )
    return boxes, count


def _assign(student: Any, boxes: Tensor) -> dict[str, tuple[Tensor, tuple[int, ...]]]:
    """Kind of assignment -> the level of each box, and the strides of all levels."""
    found: dict[str, tuple[Tensor, tuple[int, ...]]] = {}
    head = _dense_head(student)
    prior: Any = getattr(head, 'prior_generator', None)
    if hasattr(head, 'regress_ranges'):
        found['points'] = _by_range(head.regress_ranges, boxes), _sides(prior.strides)
    elif hasattr(prior, 'base_anchors'):
        found['anchors'] = _by_anchor(prior.base_anchors, boxes), _sides(prior.strides)
    extractor: Any = getattr(getattr(student, 'roi_head', None), 'bbox_roi_extractor', None)
    if isinstance(extractor, torch.nn.ModuleList):  # one for each stage of a cascade, all alike
        extractor = extractor[0]
    if hasattr(extractor, 'map_roi_levels'):
        rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
        levels = extractor.map_roi_levels(rois, len(extractor.featmap_strides))
        found['second stage'] = levels, tuple(extractor.featmap_strides)
    return found


def _dense_head(student: Any) -> Any:
    return getattr(student, 'rpn_head', None) or getattr(student, 'bbox_head', None)


def _by_anchor(base_anchors: list[Tensor], boxes: Tensor) -> Tensor:
    centred = _centred(boxes)
    best = [bbox_overlaps(centred, _centred(anchors)).amax(dim=1) for anchors in base_anchors]
    return torch.stack(best).argmax(dim=0)


def _centred(boxes: Tensor) -> Tensor:
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    return torch.cat([-half, half], dim=1)


def _by_range(ranges: Any, boxes: Tensor) -> Tensor:
    reach = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1) / 2
    upper = boxes.new_tensor([float(end) for _, end in ranges])
    return torch.searchsorted(upper, reach).clamp(max=len(upper) - 1)


def _sides(strides: Any) -> tuple[int, ...]:
    return tuple(int(s[0] if isinstance(s, (tuple, list)) else s) for s in strides)


def _shares(levels: Tensor, strides: tuple[int, ...]) -> dict[int, float]:
    counts = torch.bincount(levels, minlength=len(strides)).tolist()
    return {stride: count / len(levels) for stride, count in zip(strides, counts, strict=True)}


def _dpk_strides(cfg: Config, student: Any) -> dict[str, int]:
    """Strides of DPK's stages, where the records are the neck's whole output."""
    distiller = cfg.model.get('distiller') or {}
    if (distiller.get('records') or {}).get('feats') != 'neck':
        return {}
    prior = getattr(_dense_head(student), 'prior_generator', None)
    strides = _sides(prior.strides) if prior is not None else ()
    found = {}
    for loss in (distiller.get('distill_losses') or {}).values():
        if loss is not None and str(loss.get('type', '')).split('.')[-1] == 'DPKLoss':
            for name, stage in (loss.get('transforms') or {}).items():
                if stage is None:  # dropped, such as by transforms.P3=None
                    continue
                index = stage.get('student_index', stage.get('index'))
                if index is not None and -len(strides) <= index < len(strides):
                    found[name] = strides[index]
    return found
