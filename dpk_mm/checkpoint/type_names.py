"""What the ``type`` of a config says: a name in most configs, the class itself in those of Python that import it."""

from __future__ import annotations

from typing import Any


def type_name(kind: Any) -> str:
    """The plain name of a type: ``'FCOS'`` of ``'FCOS'``, of ``'mmdet.FCOS'`` and of the class."""
    return str(getattr(kind, '__name__', kind)).rpartition('.')[2]


def type_scopes(kind: Any) -> list[str]:
    """The packages in which a type may be registered.

    Args:
        kind: A name or a class.

    Returns:
        The scope before a name, or the packages of a class and of its bases, its own first: a class of a user's own is
        often of one that mmdet or mmpretrain has. Empty for a name without a scope.
    """
    if isinstance(kind, str):
        scope, dot, _ = kind.partition('.')
        return [scope] if dot else []
    bases = getattr(kind, '__mro__', (kind,))
    places = (getattr(base, '__module__', '').partition('.')[0] for base in bases)
    return list(dict.fromkeys(filter(None, places)))
