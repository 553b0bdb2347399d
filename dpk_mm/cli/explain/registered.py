"""Names and arguments of what is registered."""

from __future__ import annotations

import inspect
from typing import Any

from mmengine.registry import Registry, root
from torch import nn

from dpk_mm import modules


def registries() -> dict[str, Registry]:
    """mmengine's root registries by kind ('model', 'hook', ...)."""
    return {r.name: r for r in vars(root).values() if isinstance(r, Registry)}


def names_of_kind(kind: str) -> dict[str, list[str]]:
    """Name -> scopes that register it, of one kind in all packages."""
    names: dict[str, list[str]] = {}
    waiting = [registries()[kind]] if kind in registries() else []
    while waiting:
        registry = waiting.pop(0)
        waiting += registry.children.values()
        for name in registry.module_dict:
            names.setdefault(name, []).append(registry.scope)
    return names


def name_in_scope(name: str, scopes: list[str], scope: str) -> str:
    """The name as a config of the scope ``scope`` has to write it."""
    return name if scope in scopes or 'mmengine' in scopes else f'{scopes[0]}.{name}'


def arguments_of(owner: str) -> list[str]:
    """The arguments of a class by its name, with those of its bases; empty if it is not registered."""
    for registry in registries().values():
        for name in names_of_kind(registry.name):
            found = _find(registry, name)
            if inspect.isclass(found) and found.__name__ == owner:
                return _signature(found)
    found = getattr(modules, owner, None)
    return _signature(found) if inspect.isclass(found) else []


def _find(registry: Registry, name: str) -> Any:
    waiting = [registry]
    while waiting:
        one = waiting.pop(0)
        if name in one.module_dict:
            return one.module_dict[name]
        waiting += one.children.values()
    return None


def _signature(kind: type) -> list[str]:
    names: dict[str, None] = {}
    for base in kind.__mro__:
        if '__init__' not in vars(base) or base in (object, nn.Module):
            continue
        parameters = list(inspect.signature(vars(base)['__init__']).parameters.values())[1:]
        names |= {
            p.name: None for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        }
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(names)
