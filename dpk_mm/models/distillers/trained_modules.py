"""Transformation modules that start from an earlier training, all of them or not at all."""

from __future__ import annotations

import os.path as osp
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...compat.checkpoint import load_checkpoint_file
from ...errors import UsageError, first_few

PREFIX = 'distiller.'
_MODULES = '.transforms.'


def module_weights(distiller: nn.Module) -> dict[str, Tensor]:
    """The weights of the transformation modules of a distiller, by their names in a full checkpoint."""
    return {
        f'{PREFIX}{name}': value
        for name, value in distiller.state_dict().items()
        if _MODULES in name
    }


@torch.no_grad()
def load_modules(distiller: nn.Module, path: str) -> int:
    """Loads the transformation modules; what else is in the file is left out.

    Args:
        distiller: Changed in place.
        path: A file of ``tools/train_modules.py``, or a full checkpoint of a training with the same modules.

    Returns:
        How many tensors were loaded.

    Raises:
        UsageError: (a ValueError) If there is no such file, the distiller has no modules, or one of their weights is
            missing or has another shape.
    """
    if not osp.isfile(path):
        raise UsageError(
            f'model.distiller.modules_ckpt: there is no file {path!r}; make it with tools/train_modules.py, or set '
            'modules_ckpt=None for modules that start anew.'
        )
    content: Mapping[str, Any] = load_checkpoint_file(path)
    found = content.get('state_dict', content)
    own = module_weights(distiller)
    if not own:
        raise UsageError(
            'model.distiller.modules_ckpt is set, but no loss of the distiller has transformation modules; leave it '
            'out.'
        )
    wrong = [f'{name} is missing' for name in own if name not in found]
    wrong += [
        f'{name} is {tuple(found[name].shape)} instead of {tuple(value.shape)}'
        for name, value in own.items()
        if name in found and found[name].shape != value.shape
    ]
    if wrong:
        raise UsageError(
            f'model.distiller.modules_ckpt: {path!r} does not fit the modules of the config: {first_few(wrong)}; '
            'give a file of the same stages and sizes, with the same name of the loss.'
        )
    for name, value in own.items():
        value.copy_(found[name])
    return len(own)
