"""Configs without the weights that they would load."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from .type_names import type_name


def remove_pretrained(node: Any, remote_only: bool = False) -> bool:
    """Takes out of a model's config, in place, what would load weights: when it is built, or when it is initialised.

    That is ``init_cfg`` of the type ``Pretrained``, alone or in a list, ``pretrained`` of a backbone or a network of
    timm, and ``teacher_ckpt`` and ``student_ckpt`` of a distillation.

    Args:
        node: A model's config, or a part of it; other things in it stay.
        remote_only: Whether files on this machine stay, so that only what would be downloaded is taken out: an
            address, a name with a zoo's scheme, or ``pretrained=True``.

    Returns:
        Whether there was something.
    """
    if isinstance(node, (list, tuple)):
        return any([*(remove_pretrained(value, remote_only) for value in node)])
    if not isinstance(node, MutableMapping):
        return False

    def goes(source: Any) -> bool:
        return bool(source) and (not remote_only or source is True or '://' in str(source))

    def loads(init: Any) -> bool:
        return is_pretrained(init) and goes(init.get('checkpoint') or not remote_only)

    found = False
    init = node.get('init_cfg')
    if loads(init):
        node['init_cfg'], found = None, True
    elif isinstance(init, (list, tuple)) and any(loads(entry) for entry in init):
        node['init_cfg'], found = [entry for entry in init if not loads(entry)] or None, True
    for key in ('pretrained', 'teacher_ckpt', 'student_ckpt'):
        if goes(node.get(key)):
            node[key], found = False if node[key] is True else None, True
    # all of them, also after the first that has something
    return any([found, *(remove_pretrained(value, remote_only) for value in node.values())])


def is_pretrained(init: Any) -> bool:
    """Whether an ``init_cfg`` loads a checkpoint: of the type ``Pretrained``, by its name or as the class."""
    names = ('Pretrained', 'PretrainedInit')
    return isinstance(init, Mapping) and type_name(init.get('type')) in names
