"""The anchors of detectors, for losses that look at cells near boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, device

from ...errors import UsageError, did_you_mean
from .level import Level

_RATIOS = [0.5, 1.0, 2.0]

# Keys are those of PAIRS, whose configs have these anchors in the student's head.
ANCHORS: dict[str, dict[str, Any]] = {
    'coco/faster_rcnn': dict(scales=[8], ratios=_RATIOS, strides=[4, 8, 16, 32, 64]),
    'coco/retinanet': dict(
        octave_base_scale=4, scales_per_octave=3, ratios=_RATIOS, strides=[8, 16, 32, 64, 128]
    ),
    'mini/faster_rcnn': dict(scales=[4], ratios=_RATIOS, strides=[4, 8, 16, 32, 64]),
    'mini/retinanet': dict(
        octave_base_scale=2, scales_per_octave=3, ratios=_RATIOS, strides=[8, 16, 32, 64, 128]
    ),
}
"""Arguments of mmdet's ``AnchorGenerator`` by the name of a pair."""


def build_anchors(anchors: str | Mapping[str, Any], owner: str) -> Any:
    """mmdet's generator of anchors.

    Args:
        anchors: A key of :data:`ANCHORS`, or a config of an mmdet anchor generator; its ``type`` is
            ``AnchorGenerator`` where it has none.
        owner: The loss, the subject of the errors' sentences.

    Raises:
        UsageError: (a ValueError) If the name is unknown.
    """
    if isinstance(anchors, str):
        if anchors not in ANCHORS:
            raise UsageError(
                f'anchors of {owner} is {anchors!r}, but the names are {", ".join(ANCHORS)}; give one of them, or the '
                f"anchor_generator of the student's head{did_you_mean(anchors, ANCHORS) or '.'}"
            )
        anchors = ANCHORS[anchors]
    # Not at the top: classifiers need no mmdet.
    from mmdet.models.task_modules import prior_generators  # noqa: F401  (registers them)
    from mmdet.registry import TASK_UTILS

    return TASK_UTILS.build(dict(dict(type='AnchorGenerator', _scope_='mmdet'), **anchors))


def level_anchors(
    generator: Any,
    levels: Sequence[Level],
    sizes: Sequence[tuple[int, int]],
    image_shape: tuple[int, int],
    where: device,
    owner: str,
) -> list[Tensor]:
    """The anchors of each level.

    Args:
        generator: Of :func:`build_anchors`; the place of a level in its strides is the level's ``student``.
        levels: That are compared.
        sizes: (H, W) of each.
        image_shape: (height, width) of the padded batch in pixels.
        where: The device.
        owner: The loss, the subject of the errors' sentences.

    Returns:
        For each level ``[H, W, A, 4]`` float32, in pixels.

    Raises:
        UsageError: (a ValueError) If the strides are not those of the features.
    """
    found = []
    for level, size in zip(levels, sizes, strict=True):
        strides = generator.strides[level.student : level.student + 1]
        expected = [image_shape[axis] / strides[0][1 - axis] for axis in (0, 1)] if strides else []
        if not strides or any(abs(n - e) > 1 for n, e in zip(size, expected, strict=True)):
            steps = [stride[0] for stride in generator.strides]
            raise UsageError(
                f'{owner} has anchors with the strides {steps}, but the feature of level {level.student} has {size[0]}x'
                f'{size[1]} cells for a batch of {image_shape[0]}x{image_shape[1]} pixels; set anchors as in the '
                "anchor_generator of the student's head."
            )
        priors = generator.single_level_grid_priors(size, level.student, device=where)
        found.append(priors.view(*size, -1, 4))
    return found
