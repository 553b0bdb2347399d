"""Generated batches: a benchmark needs no data set."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config

from .functions import random_boxes


def is_detector(cfg: Config) -> bool:
    """Whether a config's student is a detector, which has boxes instead of a label."""
    student = cfg.model.get('architecture', cfg.model)
    return student.get('_scope_', cfg.get('default_scope', 'mmdet')) == 'mmdet'


def make_batch(
    cfg: Config,
    batch_size: int,
    image_size: tuple[int, int],
    boxes_per_image: int = 10,
    num_classes: int = 5,
) -> dict[str, Any]:
    """A batch as a dataloader gives it to ``train_step``.

    Args:
        cfg: Decides between detection and classification, and the number of channels.
        batch_size: N.
        image_size: (height, width) in pixels.
        boxes_per_image: Of a detector.
        num_classes: Labels are below it.

    Returns:
        ``inputs`` (N images, uint8) and ``data_samples``.
    """
    generator = torch.Generator().manual_seed(0)
    student = cfg.model.get('architecture', cfg.model)
    channels = student.get('backbone', {}).get('in_channels', 3)
    shape = (batch_size, channels, *image_size)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    if is_detector(cfg):
        return dict(
            inputs=list(images),
            data_samples=[
                _detection_sample(boxes_per_image, image_size, i, num_classes)
                for i in range(batch_size)
            ],
        )
    from mmpretrain.structures import DataSample

    return dict(
        inputs=images,
        data_samples=[
            DataSample(metainfo=dict(sample_idx=i)).set_gt_label(i % num_classes)
            for i in range(batch_size)
        ],
    )


def _detection_sample(count: int, size: tuple[int, int], seed: int, num_classes: int) -> Any:
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmengine.structures import InstanceData

    boxes = random_boxes(count, size, seed, 'cpu')
    instances = InstanceData(
        bboxes=HorizontalBoxes(boxes), labels=torch.arange(count) % num_classes
    )
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size, scale_factor=(1.0, 1.0))
    ignored = instances[:0]  # mmdet's assigner reads its boxes
    return DetDataSample(metainfo=meta, gt_instances=instances, ignored_instances=ignored)
