"""mmrazor's ``set_module_inplace_false`` no longer turns anything off.

Recorders keep references to feature maps; an in-place ReLU that follows would overwrite them.
mmrazor's algorithms therefore mean to turn ``inplace`` off, but the method walks
``Module._modules`` only if that is an ``OrderedDict``, which it is no longer in recent torch, and
it stops at any module that has an ``inplace`` of its own (``ConvModule``), above the activation
inside.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ._patch import Patch, is_installed


def turn_inplace_off(module: nn.Module) -> None:
    """Sets ``inplace = False`` on a module and on everything below it.

    In-place arithmetic in a ``forward`` (``out += identity``) is not reached: record the output
    of the block, not that of the layer before the addition.
    """
    for child in module.modules():
        if getattr(child, 'inplace', False):
            child.inplace = False  # type: ignore[assignment]


def _set_module_inplace_false(self: Any, architecture: nn.Module, varstr: str = '') -> None:
    turn_inplace_off(architecture)


class _Probe:
    """As much of an algorithm as the upstream method looks at."""

    def __init__(self, method: Any) -> None:
        wrapper = nn.Sequential(nn.ReLU(inplace=True))
        wrapper.inplace = True  # type: ignore[assignment]
        self.architecture = nn.Sequential(nn.ReLU(inplace=True), wrapper)
        self._method = method

    def set_module_inplace_false(self, architecture: Any, varstr: str) -> None:
        self._method(self, architecture, varstr)

    def works(self) -> bool:
        self.set_module_inplace_false(self.architecture, 'self.architecture')
        return not any(getattr(m, 'inplace', False) for m in self.architecture.modules())


def needed() -> bool:
    """Whether mmrazor's method leaves an activation in place."""
    if not is_installed('mmrazor'):
        return False
    from mmrazor.models.algorithms.base import BaseAlgorithm

    return not _Probe(BaseAlgorithm.set_module_inplace_false).works()


def apply() -> None:
    """Replaces mmrazor's method by :func:`turn_inplace_off`."""
    from mmrazor.models.algorithms.base import BaseAlgorithm

    BaseAlgorithm.set_module_inplace_false = _set_module_inplace_false


PATCH = Patch(
    name='inplace',
    symptom='features recorded by mmrazor before an in-place ReLU have no negative values',
    threads=('pytorch/pytorch#129164', 'pytorch/pytorch#130199'),
    obsolete_when='set_module_inplace_false of a released mmrazor reaches every module',
    needed=needed,
    apply=apply,
)
