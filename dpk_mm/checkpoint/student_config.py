"""The config of the student alone.

A distilled model is built from ``cfg.model.architecture`` (the student), a teacher and a distiller. What a user tests
and deploys is the student as a plain mmdet or mmpretrain model.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import mmengine.registry as registries
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import Registry
from mmrazor.registry import HOOKS
from torch import nn

from ..errors import UsageError


def is_distillation(cfg: Config) -> bool:
    """Whether ``cfg.model`` is a distillation algorithm with a student, and not a plain model."""
    return 'architecture' in (cfg.get('model') or {})


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside a wrapper for distributed runs."""
    return model.module if is_model_wrapper(model) else model


def deployed(model: nn.Module) -> nn.Module:
    """The model inside what merges predictions of changed images (test-time augmentation)."""
    return model.module if isinstance(model, BaseTTAModel) else model


def student_config(cfg: Config) -> Config:
    """The config of the student alone, for testing, exporting and stock mmdet or mmpretrain.

    ``model`` becomes the student with the data preprocessor that the training used; hooks and loops
    that need the algorithm are left out, and so is ``dpk_mm`` in ``custom_imports`` where the config
    uses nothing of it any more.

    Args:
        cfg: A config whose ``model`` is a distillation algorithm or a plain model.

    Returns:
        A new config; for a plain model an unchanged copy.

    Raises:
        UsageError: If there is no ``model``, or its student is not given as a dict.
    """
    cfg = copy.deepcopy(cfg)
    model = cfg.get('model')
    if not isinstance(model, dict):
        raise UsageError(
            f'{cfg.filename or "the config"} has no model: a config with model = dict(...) was '
            'expected.'
        )
    inner = model.get('module')
    if isinstance(inner, dict) and 'architecture' in inner:  # a model of test-time augmentation
        cfg.model = inner
        cfg = student_config(cfg)
        cfg.model = ConfigDict({**model, 'module': cfg.model})
        return cfg
    if not is_distillation(cfg):
        return cfg

    student = model.architecture
    if not isinstance(student, dict):
        raise UsageError(
            f'model.architecture is a {type(student).__name__}, but the config of the student, a '
            'dict, was expected.'
        )
    if 'cfg_path' in student and 'type' not in student:
        student = _model_of_package(student)
    student.setdefault('_scope_', model.get('_scope_', cfg.get('default_scope', 'mmengine')))
    # In training the algorithm's own preprocessor goes before the student's, and the Runner gives
    # it the one that stands at the top of the config.
    preprocessor = model.get('data_preprocessor') or cfg.get('data_preprocessor')
    if preprocessor is not None:
        student.data_preprocessor = preprocessor
    cfg.model = student

    if cfg.get('custom_hooks'):
        cfg.custom_hooks = [hook for hook in cfg.custom_hooks if not _needs_algorithm(hook)]
    for name, hook in list((cfg.get('default_hooks') or {}).items()):
        if hook is not None and _needs_algorithm(hook):
            cfg.default_hooks.pop(name)
    for name in ('val_cfg', 'test_cfg'):
        loop = cfg.get(name) or {}
        if 'Distill' in str(loop.get('type', '')):  # mmrazor's loops evaluate the teacher as well
            cfg[name] = {key: loop[key] for key in ('fp16',) if key in loop}
    _drop_own_import(cfg)
    return cfg


def _model_of_package(architecture: ConfigDict) -> ConfigDict:
    """The model that mmengine's ``get_model`` builds from ``dict(cfg_path='mmdet::...')``."""
    package = architecture.cfg_path.split('::')[0]
    cfg = get_config(architecture.cfg_path)
    model = cfg.model
    if 'data_preprocessor' in cfg:
        model.data_preprocessor = cfg.data_preprocessor
    for key, value in architecture.items():
        if key not in ('cfg_path', 'pretrained', '_scope_'):
            model.setdefault(key, value)  # not an update: ``get_model`` takes them as defaults
    model._scope_ = package
    return model


def _needs_algorithm(hook: Any) -> bool:
    """Whether a hook is one of dpk_mm or mmrazor, all of which need the algorithm."""
    kind = hook.get('type') if isinstance(hook, dict) else type(hook)
    if isinstance(kind, str):
        kind = HOOKS.get(kind)
    return getattr(kind, '__module__', '').split('.')[0] in ('dpk_mm', 'mmrazor')


def _types(node: Any) -> set[str]:
    """The names of all ``type`` keys, without their scopes."""
    if isinstance(node, (list, tuple)):
        return set().union(*map(_types, node))
    if not isinstance(node, dict):
        return set()
    found = set().union(*map(_types, node.values()))
    kind = node.get('type')
    return found | {kind.split('.')[-1]} if isinstance(kind, str) else found


def _own_names() -> set[str]:
    """Names of what dpk_mm has registered, without the ops that stand in for those of a compiled mmcv."""

    def entries(registry: Registry) -> Iterator[tuple[str, Any]]:
        yield from registry.module_dict.items()
        for child in registry.children.values():
            yield from entries(child)

    roots = [value for value in vars(registries).values() if isinstance(value, Registry)]
    places = ((name, getattr(kind, '__module__', '')) for r in roots for name, kind in entries(r))
    return {
        n for n, place in places if f'{place}.'.startswith('dpk_mm.') and '.compat.' not in place
    }


def _drop_own_import(cfg: Config) -> None:
    """Takes ``dpk_mm`` out of ``custom_imports``: the config then loads where it is not installed."""
    imports = (cfg.get('custom_imports') or {}).get('imports', [])
    imports = [imports] if isinstance(imports, str) else imports
    rest = {key: value for key, value in cfg.items() if key != 'custom_imports'}
    # losses and hooks of dpk_mm are registered with mmrazor; networks of its own with the package that they belong to
    if 'dpk_mm' not in imports or 'mmrazor' in repr(rest) or _types(rest) & _own_names():
        return
    others = [name for name in imports if name != 'dpk_mm']
    if others:
        cfg.custom_imports.imports = others
    else:
        cfg.pop('custom_imports')
