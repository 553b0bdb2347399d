"""FGFI: the student imitates the teacher's feature where anchors are near an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...functional.anchor_masks import near_box_masks
from ..loss_parts.anchors import build_anchors, level_anchors
from ..loss_parts.ground_truth import boxes_of
from ..loss_parts.level import Level
from ..loss_parts.level_loss import LevelLoss


@MODELS.register_module()
class FGFILoss(LevelLoss):
    """FGFI, fine-grained feature imitation: squared differences in the cells whose anchors are near an object.

    With the mask I of :func:`~dpk_mm.functional.anchor_masks.near_box_masks`, N_p its number of cells in all images and
    levels, and f_adap a 3x3 convolution that every level has, also where the channels are equal::

        loss = sum over levels of sum(I * (f_adap(S) - T)^2) / (2 N_p)

    The paper has one feature map. With a pyramid, a box is compared with the anchors of all levels, and N_p counts all
    levels: each imitated cell weighs the same. A batch without any near cell has the loss 0.

    Args:
        levels: As of :class:`~dpk_mm.models.loss_parts.level_loss.LevelLoss`.
        student_channels: Channels of the student's features, where a level does not say its own.
        teacher_channels: Channels of the teacher's features.
        anchors: The ``anchor_generator`` of the student's head, or the name of a pair whose anchors are known
            (:data:`~dpk_mm.models.loss_parts.anchors.ANCHORS`).
        threshold: psi in [0, 1): how near to the best anchor of a box an anchor has to be.
        mode: ``'paper'``: f_adap is the convolution; ``'code'``: it is followed by a ReLU and begins near zero, as in
            the authors' code. Their teacher's feature comes from a ReLU; that of an FPN does not, and half of it could
            not be imitated.
        loss_weight: lambda; 0.01 in the authors' code, for one VGG feature map of stride 16.
        by_level: Whether :meth:`parts` gives one number for each level.

    Raises:
        ValueError: If an argument is out of its range.

    Source: Wang et al. 2019, "Distilling Object Detectors with Fine-grained Feature Imitation", imitation region
    estimation and imitation loss.
    """

    def __init__(
        self,
        levels: Sequence[int | Mapping[str, Any]] = (0, 1, 2, 3),
        student_channels: int = 256,
        teacher_channels: int = 256,
        anchors: str | Mapping[str, Any] = 'coco/faster_rcnn',
        threshold: float = 0.5,
        mode: str = 'paper',
        loss_weight: float = 0.01,
        by_level: bool = False,
    ) -> None:
        if mode not in ('paper', 'code'):
            raise ValueError(f"mode of FGFILoss must be 'paper' or 'code', but is {mode!r}.")
        if not 0 <= threshold < 1:
            raise ValueError(
                f'threshold of FGFILoss must be in [0, 1), but is {threshold}; use 0.5.'
            )
        # `make_align`, which the base calls, asks for it; a string needs no initialised module
        self.mode = mode
        super().__init__(levels, student_channels, teacher_channels, loss_weight, by_level)
        self.threshold = threshold
        self.anchors = build_anchors(anchors, 'FGFILoss')

    def make_align(self, level: Level) -> nn.Module:
        """f_adap."""
        convolution = nn.Conv2d(level.student_channels, level.teacher_channels, 3, padding=1)
        if self.mode == 'paper':
            return convolution
        nn.init.trunc_normal_(convolution.weight, std=1e-4, a=-2e-4, b=2e-4)
        nn.init.zeros_(convolution.bias)
        return nn.Sequential(convolution, nn.ReLU())

    def parts(
        self,
        student_feats: Sequence[Tensor],
        teacher_feats: Sequence[Tensor],
        data_samples: Sequence[Any],
    ) -> dict[str, Tensor]:
        """The loss as its only part, or with ``by_level`` one part for each level.

        Args:
            student_feats: ``[N, C_s, H, W]`` each, as recorded.
            teacher_feats: ``[N, C_t, H, W]`` each.
            data_samples: N samples with ``gt_instances.bboxes`` in pixels of the padded batch, and
                ``batch_input_shape`` in the first one's metainfo.

        Returns:
            float32 scalars: the whole, or ``level<index on the student's side>``.

        Raises:
            ValueError: If a level, boxes or ``batch_input_shape`` are missing, or the anchors' strides are not those
                of the features.
        """
        masks = self._masks(teacher_feats, data_samples) if self.levels else {}
        count = torch.stack([mask.sum() for mask in masks.values()]).sum() if masks else 0

        def term(level: Level, student: Tensor, teacher: Tensor) -> Tensor:
            # multiplied, so that a NaN outside of the mask stays one
            near = (student - teacher).square().sum(1) * masks[level.student]
            return near.sum() / (2 * count.clamp(min=1))

        return self.by_levels(student_feats, teacher_feats, term)

    def _masks(
        self, teacher_feats: Sequence[Tensor], data_samples: Sequence[Any]
    ) -> dict[int, Tensor]:
        """``[N, H, W]`` by the student's index of the level."""
        self._check_count(teacher_feats, 'teacher')
        feats = [teacher_feats[level.teacher] for level in self.levels]
        boxes, image_shape = boxes_of(data_samples, feats[0], 'FGFILoss')
        sizes = [tuple(feature.shape[2:]) for feature in feats]
        anchors = level_anchors(
            self.anchors, self.levels, sizes, image_shape, feats[0].device, 'FGFILoss'
        )
        found = [near_box_masks(some, anchors, self.threshold) for some in boxes]
        return {
            level.student: torch.stack([masks[i] for masks in found])
            for i, level in enumerate(self.levels)
        }
