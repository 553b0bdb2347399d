"""Dicts of a config and their dotted keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mmengine.config import Config

from ...errors import first_few


def all_dicts(node: Any, path: str = '') -> Iterator[tuple[str, dict]]:
    """Every dict of a config with its dotted key, outer ones first."""
    if isinstance(node, Config):
        node = node._cfg_dict.to_dict()
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, dict):
        yield path, node
        items = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    for key, value in items:
        if isinstance(value, (dict, list, tuple)):
            yield from all_dicts(value, f'{path}.{key}' if path else str(key))


def is_type(node: dict, name: str) -> bool:
    """Whether the ``type`` of a dict is that name, with any scope, or a class of that name."""
    kind = node.get('type')
    kind = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return kind.rpartition('.')[2] == name


def keys_of_type(name: str, cfg: Config) -> list[str]:
    """Keys of the dicts of a type."""
    return [path for path, node in all_dicts(cfg) if is_type(node, name)]


def keys_with_argument(owner: str, argument: str, cfg: Config) -> list[str]:
    """Keys of the dicts that hold an argument: those of the type ``owner`` if there are any."""
    holding = [(path, node) for path, node in all_dicts(cfg) if argument in node and path]
    exact = [path for path, node in holding if is_type(node, owner)]
    return exact or [path for path, _ in holding]


def at_keys(keys: Iterable[str]) -> str:
    """The start of a sentence about keys of the config: ``a.b and 2 more: ``, or nothing without a key."""
    keys = list(keys)
    return f'{first_few(keys, most=1)}: ' if keys else ''
