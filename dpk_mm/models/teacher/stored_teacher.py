"""A teacher that computes nothing: its logits come with the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModel
from mmrazor.registry import MODELS
from torch import Tensor, nn

from dpk_mm.errors import UsageError

from .stored_logits import expand

STORED = 'stored_logits'
"""The key of an image's stored logits in the metainfo of its data sample."""


@MODELS.register_module()
class StoredTeacher(BaseModel):
    """Gives the logits that a ``ReplayDataset`` has put into the data samples.

    They go through a module of the name that the record ``logits`` has, so that recorders and losses work as with a
    teacher that is run. There are no features: a loss that asks for some needs a live teacher.

    Args:
        num_classes: Classes of the teacher.
        tau: Temperature at which the logits were stored.
        source: Name of the module that is recorded.

    Raises:
        UsageError: (a ValueError) At a batch without stored logits.
    """

    needs_checkpoint = False

    def __init__(self, num_classes: int, tau: float = 1.0, source: str = 'head.fc') -> None:
        super().__init__()
        self.num_classes = num_classes
        self.tau = tau
        self.source = source
        owner: nn.Module = self
        *path, name = source.split('.')
        for part in path:
            owner.add_module(part, nn.Module())
            owner = getattr(owner, part)
        owner.add_module(name, nn.Identity())

    def check_recorders(self, sources: Mapping[str, str]) -> None:
        """Refuses records of anything but the logits.

        Args:
            sources: Name of a record of the teacher -> the module it looks at.

        Raises:
            UsageError: (a ValueError) If there is one.
        """
        for name, source in sources.items():
            if source != self.source:
                raise UsageError(
                    f'The record {name!r} looks at {source!r} of the teacher, but a StoredTeacher gives its logits '
                    f'alone (source={self.source!r}); drop it with records=dict({name}=None), and the losses that need '
                    'it, or use a live teacher.'
                )

    def extract_feat(self, inputs: Tensor) -> tuple[()]:
        """None: only logits are stored."""
        return ()

    def forward(
        self, inputs: Tensor, data_samples: Sequence[Any] | None = None, mode: str = 'tensor'
    ) -> Tensor:
        """The logits of a batch.

        Args:
            inputs: Only its device counts.
            data_samples: With the stored logits in their metainfo.
            mode: Not looked at.

        Returns:
            ``[N, classes]`` float32.
        """
        found = [sample.metainfo.get(STORED) for sample in data_samples or ()]
        if not found or any(value is None for value in found):
            raise UsageError(
                'StoredTeacher: the data samples have no stored logits; train on a ReplayDataset with logits=FOLDER.'
            )
        stored = torch.from_numpy(np.stack(found)).to(inputs.device, non_blocking=True)
        return self.get_submodule(self.source)(expand(stored, self.num_classes, self.tau))
