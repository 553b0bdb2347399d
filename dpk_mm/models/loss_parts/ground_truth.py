"""Ground-truth boxes as the losses need them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def boxes_of(
    data_samples: Sequence[Any] | None, feature: Tensor, user: str
) -> tuple[list[Tensor], tuple[int, int]]:
    """Boxes on the device of a feature, and the size of the padded batch.

    Args:
        data_samples: One sample per image, with ``gt_instances.bboxes`` in pixels of
            the padded batch, and ``batch_input_shape`` in the first one's metainfo.
        feature: ``[N, C, H, W]`` of the same images.
        user: Who needs them, the subject of the errors' sentences.

    Returns:
        N tensors ``[G_i, 4]``, and (height, width).

    Raises:
        ValueError: If there are no samples, not one per image, or boxes or ``batch_input_shape`` are missing.
    """
    if data_samples is None:
        raise ValueError(
            f'{user} needs data_samples for the boxes, but found None; map them in loss_forward_mappings '
            "from a 'ModuleInputs' recorder with data_idx=1."
        )
    if len(data_samples) != feature.shape[0]:
        raise ValueError(
            f'{user} needs one data sample per image, but found {len(data_samples)} for '
            f'{feature.shape[0]} images; record both from the same forward pass.'
        )
    shape = data_samples[0].metainfo.get('batch_input_shape')
    if shape is None:
        raise ValueError(
            f"{user} needs 'batch_input_shape' in the metainfo of the data samples, but found "
            f"{sorted(data_samples[0].metainfo)}; use mmdet's DetDataPreprocessor, which sets it."
        )
    boxes = []
    for i, sample in enumerate(data_samples):
        found = getattr(getattr(sample, 'gt_instances', None), 'bboxes', None)
        if found is None:
            raise ValueError(
                f"{user} needs 'gt_instances.bboxes' in every data sample, but sample {i} has none; load them "
                "with LoadAnnotations(with_bbox=True) and pack 'gt_bboxes'."
            )
        tensor = found if isinstance(found, Tensor) else found.tensor  # mmdet's BaseBoxes
        boxes.append(tensor.to(feature.device))
    return boxes, (int(shape[0]), int(shape[1]))
