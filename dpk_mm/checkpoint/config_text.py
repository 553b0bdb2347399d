"""The settings in the text of a config, which is read and never run."""

from __future__ import annotations

import ast


def settings(text: str, name: str) -> dict[str, str]:
    """The settings of one variable of a config.

    Args:
        text: As mmengine dumps a config, and keeps it in ``meta`` of a checkpoint.
        name: Of a variable at the top, such as ``'model'``.

    Returns:
        Dotted key, such as ``'model.teacher_ckpt'`` -> value as Python writes it; empty if the text is no Python or has
        no such variable.
    """
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError):
        return {}
    found: dict[str, str] = {}
    for line in body:
        if isinstance(line, ast.Assign) and [ast.unparse(t) for t in line.targets] == [name]:
            _collect(name, line.value, found)
    return found


def _collect(place: str, node: ast.expr, found: dict[str, str]) -> None:
    parts: list[tuple[str, ast.expr]] = []
    tables = [node]
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict':
        parts = [(str(keyword.arg), keyword.value) for keyword in node.keywords]
        tables = node.args  # dict({'no identifier': 1})
    for table in tables:
        if isinstance(table, ast.Dict):
            names = [key.value if isinstance(key, ast.Constant) else key for key in table.keys]
            parts += [(str(key), value) for key, value in zip(names, table.values, strict=True)]
    if isinstance(node, ast.List) and any(isinstance(v, (ast.Call, ast.Dict)) for v in node.elts):
        parts = [(str(i), v) for i, v in enumerate(node.elts)]
    if not parts:
        found[place] = ast.unparse(node)
    for key, value in parts:
        _collect(f'{place}.{key}', value, found)


def changed(before: str, after: str, name: str) -> dict[str, tuple[str | None, str | None]]:
    """What differs between two texts in one variable.

    Args:
        before: Text of a config; one without the variable differs in nothing.
        after: The other.
        name: Of the variable.

    Returns:
        Dotted key -> its value in both; None where one has no such key.
    """
    old, new = settings(before, name), settings(after, name)
    if not old or not new:
        return {}
    keys = dict.fromkeys([*old, *new])
    return {k: (old.get(k), new.get(k)) for k in keys if old.get(k) != new.get(k)}
