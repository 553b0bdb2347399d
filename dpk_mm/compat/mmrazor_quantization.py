"""mmrazor 1.0.0 cannot be imported on torch 2.x, because its quantization tables cannot be built.

``mmrazor.structures.quantization.backend_config`` builds tables for ``torch.ao.quantization``
while it is imported, out of helpers that torch 2.0 removed. Everything else of mmrazor imports
that package, and distillation uses none of it, so a stand-in takes its place: quantization then
fails where it is used, with a sentence, and the rest works.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from ._patch import Patch, is_installed

_PACKAGE = 'mmrazor.structures.quantization.backend_config'
_BACKENDS = ('academic', 'native', 'openvino', 'tensorrt')


def _unavailable() -> NoReturn:
    import torch

    raise NotImplementedError(
        f'quantization with this mmrazor release does not work on torch {torch.__version__}: use '
        'torch 1.13 for it (distillation, pruning and architecture search are not affected).'
    )


class _NoBackends(dict[str, Any]):
    def __missing__(self, key: str) -> NoReturn:
        _unavailable()


def needed() -> bool:
    """Whether mmrazor would build its quantization tables with helpers that torch lacks."""
    if _PACKAGE in sys.modules or not is_installed('mmrazor'):
        return False
    spec = importlib.util.find_spec('mmrazor')
    if spec is None or spec.origin is None:
        return False
    mapping = Path(spec.origin).parent / 'structures/quantization/backend_config/mapping.py'
    # The development branch has the same version, 1.0.0, but builds the tables for torch 1.13 alone, so
    # the file itself is read, which needs no import.
    if not mapping.is_file() or '1.13.1' in mapping.read_text(encoding='utf-8'):
        return False
    try:
        from torch.ao.quantization import fuser_method_mappings
    except ImportError:
        return True
    return not hasattr(fuser_method_mappings, 'reverse2')


def apply() -> None:
    """Registers a stand-in for the quantization tables."""
    stub = ModuleType(_PACKAGE, 'Stand-in for a part of mmrazor that needs torch 1.13.')
    stub.__path__ = []  # a package, as the original
    names: dict[str, object] = {'BackendConfigs': _NoBackends()}
    for backend in _BACKENDS:
        for suffix in ('', '_dict'):
            names[f'get_{backend}_backend_config{suffix}'] = lambda *args, **kwargs: _unavailable()
    stub.__dict__.update(names, __all__=list(names))
    sys.modules[_PACKAGE] = stub


PATCH = Patch(
    name='mmrazor_quantization',
    symptom='import mmrazor.models: `torch>=1.13` is not installed properly, plz check',
    threads=('open-mmlab/mmrazor#615', 'open-mmlab/mmrazor#632', 'open-mmlab/mmrazor#652'),
    obsolete_when='a release of mmrazor builds its quantization tables on torch 1.13 only, or not '
    'at import',
    needed=needed,
    apply=apply,
)
