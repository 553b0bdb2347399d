"""Recorders that mmrazor lacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmrazor.models.task_modules.recorder import ModuleOutputsRecorder, RecorderManager
from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from mmrazor.registry import TASK_UTILS
from torch import nn

from dpk_mm.errors import UsageError

__all__ = [
    'MultiModuleOutputsRecorder',
    'attach_again',
    'is_hooked',
    'module_at',
    'module_recorders',
]


@TASK_UTILS.register_module()
class MultiModuleOutputsRecorder(BaseRecorder):
    """The outputs of several modules as one tuple, in a config ``type='MultiModuleOutputs'``.

    mmrazor's recorders take one module each, and a loss that wants the tuple of a model's stages, as
    ``DPKLoss`` does, gets it from a backbone that returns one. Some backbones cannot without a change of
    their logits or of their weights: mmpretrain's ConvNeXt returns pooled vectors, and each further
    ``out_indices`` of ConvNeXt and Swin brings a norm that no published checkpoint has; of its
    VisionTransformer the head takes class tokens, not features; timm's models return logits.

    Args:
        source: Names of modules, shallow first, such as
            ``['backbone.stages.2', 'backbone.stages.3']``.

    Raises:
        UsageError: (a ValueError) If ``source`` is no list of names, or, when the model is known, it has no
            module of that name.
    """

    def __init__(self, source: Sequence[str]) -> None:
        if isinstance(source, str) or not source or not all(isinstance(s, str) for s in source):
            raise UsageError(
                f'MultiModuleOutputs: source must be a list of module names, but is {source!r}; '
                "for one module take type='ModuleOutputs'."
            )
        super().__init__(', '.join(source))
        self._recorders = [ModuleOutputsRecorder(name) for name in source]

    @property
    def recorders(self) -> list[ModuleOutputsRecorder]:
        """The recorders of the single modules."""
        return self._recorders

    @property
    def data_buffer(self) -> list[tuple[Any, ...]]:
        """One tuple for each run of the model."""
        return list(zip(*(recorder.data_buffer for recorder in self._recorders), strict=False))

    def prepare_from_model(self, model: nn.Module | None = None) -> None:
        """Hooks the modules of ``model``."""
        names = {name for name, _ in model.named_modules()} if model is not None else set()
        for recorder in self._recorders:
            if recorder.source not in names:
                raise UsageError(_unknown(recorder.source, type(model).__name__, names))
            recorder.initialize(model)

    def get_record_data(self, record_idx: int = 0, data_idx: int | None = None) -> Any:
        """The tuple of outputs of run ``record_idx``, or its item ``data_idx``."""
        record = tuple(recorder.get_record_data(record_idx) for recorder in self._recorders)
        return record if data_idx is None else record[data_idx]

    def reset_data_buffer(self) -> None:
        """Drops what was recorded."""
        for recorder in self._recorders:
            recorder.reset_data_buffer()

    def __enter__(self) -> None:
        super().__enter__()
        for recorder in self._recorders:
            recorder.__enter__()

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        for recorder in self._recorders:
            recorder.__exit__(exc_type, exc_value, traceback)


def module_recorders(recorder: BaseRecorder) -> list[ModuleOutputsRecorder]:
    """The recorders of single modules that a recorder consists of; none if it looks at something else."""
    leaves = getattr(recorder, 'recorders', [recorder])
    return [leaf for leaf in leaves if isinstance(leaf, ModuleOutputsRecorder)]


def module_at(model: nn.Module, source: str) -> nn.Module | None:
    """The module of a name, or None."""
    try:
        return model.get_submodule(source)
    except AttributeError:
        return None


def attach_again(manager: RecorderManager, model: nn.Module) -> list[str]:
    """Hooks the modules that were put in the places of those that a manager had hooked.

    A module that replaces another has none of its hooks: mmengine converts batch normalisation to SyncBN, or back,
    when the model is built already, and hooks of users replace modules, too.

    Args:
        manager: Prepared before.
        model: The model that it records.

    Returns:
        The names of these modules.
    """
    found = []
    for recorder in manager.recorders.values():
        for leaf in module_recorders(recorder):
            module = module_at(model, leaf.source)
            if module is not None and not is_hooked(module, leaf):
                module.register_forward_hook(leaf.forward_hook)
                found.append(leaf.source)
    return found


def is_hooked(module: nn.Module, recorder: ModuleOutputsRecorder) -> bool:
    """Whether a recorder sees what a module gives."""
    return any(getattr(h, '__self__', None) is recorder for h in module._forward_hooks.values())


def _unknown(source: str, model: str, names: set[str]) -> str:
    """One sentence: which name is wrong, and what there is beside it."""
    parent = source.rpartition('.')[0]
    while parent and parent not in names:
        parent = parent.rpartition('.')[0]
    children = [name for name in names if name and name.rpartition('.')[0] == parent]
    near = sorted(children, key=lambda name: (len(name), name))
    where = f' in {parent!r}' if parent else ''
    return (
        f'MultiModuleOutputs: source names {source!r}, but {model} has no such module; '
        f'choose from those{where}: {", ".join(near) or "none"}.'
    )
