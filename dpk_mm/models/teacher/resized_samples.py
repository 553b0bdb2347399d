"""The ground truth of a batch whose images are resized for the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor

from dpk_mm.errors import UsageError

Size = tuple[int, int]

#: Data of a sample in the coordinates of the image, of mmdet's structures.
_INSTANCES = ('gt_instances', 'ignored_instances', 'proposals')
_MAPS = ('gt_sem_seg', 'gt_panoptic_seg')
#: Data of an instance that have nothing to do with the size of the image.
_SIZELESS = ('labels', 'scores', 'ignore_flags', 'instances_ids', 'positive_maps', 'texts')


def resized_samples(samples: Sequence[Any] | None, image: Size, size: Size) -> Sequence[Any] | None:
    """Copies of data samples that belong to the resized images.

    Boxes are multiplied by the factors of the two sides, masks are padded as the images are and resized (nearest
    neighbour, or by their points), and what the metainfo says of the image's size follows.

    Args:
        samples: Of mmdet or mmpretrain; they and what is in them stay as they are. Others are returned themselves.
        image: (height, width) of the batch, padding included.
        size: (height, width) to which the batch is resized.

    Raises:
        UsageError: If a sample has something in image coordinates that cannot be resized: a semantic or panoptic
            map, boxes of another form than ``[n, 4]``, or data of instances that are not known.
    """
    if samples is None or tuple(image) == tuple(size):
        return samples
    return [
        _sample(sample, image, size) if isinstance(sample, BaseDataElement) else sample
        for sample in samples
    ]


def _sample(sample: BaseDataElement, image: Size, size: Size) -> BaseDataElement:
    for name in _MAPS:
        if name in sample:
            raise UsageError(
                f'model.teacher_input_size resizes the images for the head of the teacher, but the data samples have '
                f'{name}, which is not resized with them: leave semantic maps out of the pipeline (with_seg=False), '
                'record features in front of the head, or give the teacher the size of the student.'
            )
    copied = sample.new()
    for name in _INSTANCES:
        if name in sample:
            setattr(copied, name, _instances(getattr(sample, name), name, image, size))
    factors = [new / old for new, old in zip(size, image, strict=True)]
    meta = sample.metainfo
    changed: dict[str, Any] = {
        key: size for key in ('pad_shape', 'batch_input_shape') if meta.get(key) is not None
    }
    if meta.get('img_shape') is not None:
        height_width = zip(meta['img_shape'][:2], factors, strict=True)
        own = tuple(round(side * factor) for side, factor in height_width)
        changed['img_shape'] = own + tuple(meta['img_shape'][2:])
    scale = meta.get('scale_factor')  # (width, height), or both twice
    if scale is not None and not isinstance(scale, (int, float)):
        changed['scale_factor'] = tuple(s * factors[1 - i % 2] for i, s in enumerate(scale))
    copied.set_metainfo(changed)
    return copied


def _instances(instances: InstanceData, owner: str, image: Size, size: Size) -> InstanceData:
    copied = instances.new()
    for name, value in instances.items():
        if name == 'bboxes':
            resized = _boxes(value, owner, size[1] / image[1], size[0] / image[0])
        elif name == 'masks' and hasattr(value, 'pad') and hasattr(value, 'resize'):
            # the images are padded to the batch's size: so the masks are, or their factor would be another one
            resized = value.pad(image).resize(size)
        elif name in _SIZELESS:
            continue
        else:
            _refuse(f'{owner}.{name} ({type(value).__name__})')
        setattr(copied, name, resized)
    return copied


def _boxes(boxes: Any, owner: str, horizontal: float, vertical: float) -> Any:
    if isinstance(boxes, Tensor) and boxes.shape[-1] == 4:
        return boxes * boxes.new_tensor([horizontal, vertical] * 2)
    if hasattr(boxes, 'rescale_'):  # mmdet's box types
        boxes = boxes.clone()
        boxes.rescale_((horizontal, vertical))
        return boxes
    _refuse(f'{owner}.bboxes ({type(boxes).__name__} {tuple(getattr(boxes, "shape", ()))})')


def _refuse(what: str) -> NoReturn:
    raise UsageError(
        f'model.teacher_input_size resizes the images for the head of the teacher, but {what} of the data samples is '
        'nothing that can be resized with them, such as boxes [n, 4] or masks of mmdet: record features in front of '
        'the head, or give the teacher the size of the student.'
    )
