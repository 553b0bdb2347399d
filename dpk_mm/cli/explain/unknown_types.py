"""Sentences on a ``type`` that no registry has."""

from __future__ import annotations

from mmengine.config import Config

from ...errors import did_you_mean, nearest
from .config_keys import all_dicts, at_keys
from .registered import name_in_scope, names_of_kind, registries


def unknown_type(name: str, scope: str, kind: str, cfg: Config) -> str:
    """On a name that a registry does not have.

    Args:
        name: As the config has it, with or without a scope.
        scope: Of the registry.
        kind: Of the registry: 'model', 'hook', ...
        cfg: The config.
    """
    bare = name.rpartition('.')[2]
    where = at_keys(
        f'{path}.type' for path, node in all_dicts(cfg) if str(node.get('type')) == name
    )
    known = names_of_kind(kind)
    near = [n for n, scopes in known.items() if scope in scopes or 'mmengine' in scopes]
    # a missing scope first, then misspelled names: those of the scope before those of others
    close = bare if bare in known else nearest(bare, near) or nearest(bare, known)
    if close is None:
        return (
            f'{where}there is no {kind} {name}, and none of the {len(known)} known ones is similar; is its '
            'module among custom_imports?'
        )
    return f'{where}there is no {kind} {name}; did you mean {name_in_scope(close, known[close], scope)}?'


def unknown_optimizer(cfg: Config) -> str | None:
    """On a ``type`` in ``optim_wrapper`` that no registry has, of which mmengine's error does not name it."""
    known = {name for kind in registries() for name in names_of_kind(kind)}
    for path, node in all_dicts(cfg):
        name = node.get('type')
        if path.startswith('optim_wrapper') and isinstance(name, str):
            bare = name.rpartition('.')[2]
            if bare not in known:
                hint = did_you_mean(bare, names_of_kind('optimizer'), cutoff=0.5) or '.'
                return f'{path}.type: there is no optimizer {name}{hint}'
    return None
