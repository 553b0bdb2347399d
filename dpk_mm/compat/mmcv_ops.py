"""mmcv without compiled ops (mmcv-lite) is given those that torchvision has.

mmcv publishes no wheel for today's PyTorch and takes long to compile; mmcv-lite is the same
package without the extension ``mmcv._ext``, and ``mmdet.models`` cannot be imported with it. The
extension is a table of functions by name, so a module with the same names is enough: the ops of
detection run on torchvision (:mod:`dpk_mm.compat.ops`), and any other raises when it is called. A
compiled mmcv is used as it is.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import NoReturn

from ._patch import Patch

_EXTENSION = 'mmcv._ext'


def _missing_op(name: str) -> Callable[..., NoReturn]:
    def missing(*args: object, **kwargs: object) -> NoReturn:
        import mmcv
        import torch

        raise NotImplementedError(
            f"the mmcv op '{name}' needs a compiled mmcv, but the one installed is without "
            'compiled ops and torchvision has no such op: replace mmcv-lite by mmcv '
            f'{mmcv.__version__} built for torch {torch.__version__}, for example with '
            f"'pip uninstall mmcv-lite' and 'mim install mmcv=={mmcv.__version__}'."
        )

    missing.__name__ = missing.__qualname__ = name
    return missing


class _Extension(ModuleType):
    """Has a function for any op's name, because mmcv looks up all ops when it is imported."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith('__'):  # what Python itself asks modules for
            raise AttributeError(f'module {_EXTENSION!r} has no attribute {name!r}.')
        return _missing_op(name)


class _ExtensionLoader(Loader):
    # A module with a loader counts as compiled ops for mmengine, which then applies ``dcn_offset_lr_mult``.

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Extension(spec.name, 'Ops of mmcv on torchvision.')

    def exec_module(self, module: ModuleType) -> None:
        from . import ops

        module.__dict__.update({name: getattr(ops, name) for name in ops.__all__})


def needed() -> bool:
    """Whether mmcv is installed without compiled ops."""
    if _EXTENSION in sys.modules:
        return False
    mmcv = importlib.util.find_spec('mmcv')
    if mmcv is None:
        return False
    # Asked of the path finder, as ``find_spec('mmcv._ext')`` would import mmcv.
    return PathFinder.find_spec(_EXTENSION, mmcv.submodule_search_locations) is None


def apply() -> None:
    """Registers the stand-ins as ``mmcv._ext``."""
    loader = _ExtensionLoader()
    module = importlib.util.module_from_spec(ModuleSpec(_EXTENSION, loader, origin='torchvision'))
    loader.exec_module(module)
    sys.modules[_EXTENSION] = module
    _complete_earlier_imports()


def _complete_earlier_imports() -> None:
    # Two modules go on without a class where mmcv.ops fails. mmdet looks for the one in mmcv.cnn;
    # the other registers a head of mmdet.
    transformer = sys.modules.get('mmcv.cnn.bricks.transformer')
    if transformer is not None and not hasattr(transformer, 'MultiScaleDeformableAttention'):
        from mmcv.ops import MultiScaleDeformableAttention

        transformer.__dict__.update(MultiScaleDeformableAttention=MultiScaleDeformableAttention)
    head = sys.modules.get('mmpretrain.models.utils.res_layer_extra_norm')
    if head is not None and head.ResLayerExtraNorm is None:
        importlib.reload(head)
        sys.modules['mmpretrain.models.utils'].__dict__.update(
            ResLayerExtraNorm=head.ResLayerExtraNorm
        )


PATCH = Patch(
    name='mmcv_ops',
    symptom="import mmdet.models: No module named 'mmcv._ext'",
    threads=('open-mmlab/mmcv#2059', 'open-mmlab/mmdetection#11475'),
    obsolete_when='mmcv publishes wheels with compiled ops for every supported torch and platform',
    needed=needed,
    apply=apply,
)
