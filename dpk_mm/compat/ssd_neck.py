"""The weight of mmdet's ``L2Norm`` is whatever stood in memory until ``init_weights`` or a checkpoint fills it.

A teacher is not initialised, since a checkpoint follows; without one an SSD then gives NaN, or another number each
time.
"""

from __future__ import annotations

import functools
from typing import Any

from ._patch import Patch, is_installed


def needed() -> bool:
    """Whether the constructor leaves the weight as it is."""
    if not is_installed('mmdet'):
        return False
    from mmdet.models.necks.ssd_neck import L2Norm

    return not hasattr(L2Norm.__init__, '__wrapped__')


def apply() -> None:
    """Lets the constructor fill the weight with its scale, as ``init_weights`` of the neck does."""
    from mmdet.models.necks.ssd_neck import L2Norm
    from torch import nn

    original = L2Norm.__init__

    @functools.wraps(original)
    def initialised(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        nn.init.constant_(self.weight, self.scale)

    L2Norm.__init__ = initialised


PATCH = Patch(
    name='ssd_neck',
    symptom='NaN, or another number at each start, from an SSD whose weights were not initialised',
    threads=(),
    obsolete_when='the constructor of L2Norm in a released mmdet sets its weight',
    needed=needed,
    apply=apply,
)
