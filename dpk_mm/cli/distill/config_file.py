"""A readable config file: what it inherits, and only what it changes."""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Mapping
from typing import Any

_WIDTH = 100


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What a config that inherits ``old`` has to say to become ``new``, by mmengine's rules.

    Dicts are merged by key; everything else is replaced. A dict that lost a key is replaced as a whole, with
    ``_delete_=True``.
    """
    found: dict[str, Any] = {}
    for key, value in new.items():
        if key not in old:
            found[key] = value
        elif isinstance(value, dict) and isinstance(old[key], dict):
            if old[key].keys() - value.keys():
                found[key] = {'_delete_': True, **value}
            elif inner := changes(old[key], value):
                found[key] = inner
        elif value != old[key] or type(value) is not type(old[key]):
            replaces = isinstance(value, dict) and old[key] is not None
            found[key] = {'_delete_': True, **value} if replaces else value
    return found


def assignments(old: Any, new: Any, name: str) -> list[str] | None:
    """Lines such as ``model.bbox_head[0].num_classes = 3`` that turn ``old`` into ``new``.

    Returns:
        The lines; None if keys or lengths differ, so that lines of this kind do not do.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        if old.keys() != new.keys() or not all(map(_is_name, new)):
            return None
        parts = [assignments(old[key], new[key], f'{name}.{key}') for key in new]
    elif isinstance(old, list) and isinstance(new, list) and any(isinstance(v, dict) for v in new):
        if len(old) != len(new):
            return None
        parts = [
            assignments(a, b, f'{name}[{i}]') for i, (a, b) in enumerate(zip(old, new, strict=True))
        ]
    elif old == new and type(old) is type(new):
        return []
    else:
        return [f'{name} = {literal(new, len(name) + 3)}']
    if any(part is None for part in parts):
        return None
    return [line for part in parts for line in part or ()]


def literal(value: Any, column: int = 0, indent: int = 0) -> str:
    """A value as Python source.

    Args:
        value: Dicts, lists, tuples, texts, numbers.
        column: Where the text begins in its line.
        indent: Of the line.
    """
    flat = _flat(value)
    if column + len(flat) <= _WIDTH or not isinstance(value, (dict, list, tuple)) or not value:
        return flat
    inner = ' ' * (indent + 4)
    if isinstance(value, dict) and all(map(_is_name, value)):
        begin, end = 'dict(', ')'
        items = [(f'{key}=', item) for key, item in value.items()]
    elif isinstance(value, dict):
        begin, end = '{', '}'
        items = [(f'{key!r}: ', item) for key, item in value.items()]
    else:
        begin, end = ('(', ')') if isinstance(value, tuple) else ('[', ']')
        items = [('', item) for item in value]
    lines = [
        f'{inner}{head}{literal(item, len(inner) + len(head) + 1, indent + 4)},\n'
        for head, item in items
    ]
    return f'{begin}\n{"".join(lines)}{" " * indent}{end}'


def settings(values: Mapping[str, Any]) -> list[str]:
    """Lines ``key = value`` for all settings; a test that is like the validation is said to be so."""
    lines = []
    for key, value in values.items():
        twin = key.replace('test_', 'val_')
        same = twin != key and twin in values and values[twin] == value
        lines.append(f'{key} = {twin if same else literal(value, len(key) + 3)}')
    return lines


def comment(lines: Iterable[str]) -> list[str]:
    """Lines as comments."""
    return [f'# {line}'.rstrip() for line in lines]


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        if all(map(_is_name, value)):
            return f'dict({", ".join(f"{k}={_flat(v)}" for k, v in value.items())})'
        return f'{{{", ".join(f"{k!r}: {_flat(v)}" for k, v in value.items())}}}'
    if isinstance(value, tuple):
        return f'({", ".join(map(_flat, value))}{"," if len(value) == 1 else ""})'
    if isinstance(value, list):
        return f'[{", ".join(map(_flat, value))}]'
    return repr(value)


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)


def plain(value: Any) -> Any:
    """A config's value as ordinary dicts, lists and tuples, to be written or compared.

    Without ``_scope_``, which mmengine adds to everything that is inherited from another package.
    """
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key != '_scope_'}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    return value
