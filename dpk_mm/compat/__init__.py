"""Makes the released OpenMMLab 2.0 packages work with today's PyTorch.

One file per upstream defect: its symptom, the public threads, and when it can go. A patch is
applied only where its symptom is present, and no other part of this package changes an upstream
one.
"""

from __future__ import annotations

from dpk_mm.compat.checkpoint import load_checkpoint_file
from dpk_mm.errors import CheckpointError, DamagedCheckpointError, UnsafeCheckpointError

from . import (
    atomic_checkpoints,
    checkpoint,
    inplace,
    mmcv_ops,
    mmrazor_joblib,
    mmrazor_quantization,
    ssd_head,
    ssd_neck,
    student_optimizer,
    timm_names,
)
from ._patch import Patch

__all__ = [
    'PATCHES',
    'CheckpointError',
    'DamagedCheckpointError',
    'Patch',
    'UnsafeCheckpointError',
    'apply',
    'load_checkpoint_file',
    'report',
]

# The order matters: what lets mmrazor be imported comes before what imports it.
PATCHES: tuple[Patch, ...] = (
    mmcv_ops.PATCH,
    mmrazor_joblib.PATCH,
    mmrazor_quantization.PATCH,
    checkpoint.PATCH,
    atomic_checkpoints.PATCH,
    inplace.PATCH,
    student_optimizer.PATCH,
    timm_names.PATCH,
    ssd_head.PATCH,
    ssd_neck.PATCH,
)

_applied: list[str] = []


def apply() -> tuple[str, ...]:
    """Applies every patch whose symptom is present. Calling it again does nothing more.

    Returns:
        The names of the patches applied so far in this process, in the order of :data:`PATCHES`.

    Raises:
        ModuleNotFoundError: If mmrazor is installed without joblib, which it needs.
    """
    for patch in PATCHES:
        if patch.name not in _applied and patch.needed():
            patch.apply()
            _applied.append(patch.name)
    return tuple(_applied)


def report() -> list[dict[str, object]]:
    """What is patched and why, one dict per patch, for bug reports.

    Returns:
        Dicts with the keys ``name``, ``applied``, ``symptom``, ``threads`` and ``obsolete_when``.
    """
    return [
        {
            'name': patch.name,
            'applied': patch.name in _applied,
            'symptom': patch.symptom,
            'threads': patch.threads,
            'obsolete_when': patch.obsolete_when,
        }
        for patch in PATCHES
    ]
