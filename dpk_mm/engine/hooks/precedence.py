"""A hook of ``custom_hooks`` that replaces one of the same kind in ``default_hooks``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log

from ...errors import UsageError


def gives_way(hook: Hook, kind: type[Hook], key: str, runner: Any) -> bool:
    """Settles which of two hooks of a kind works, where a config has one by default and a user names another.

    The default one is told by its type; where both are of that type it is the first one, since mmengine registers the
    default hooks first. The one that gives way is made to do nothing from now on.

    Args:
        hook: One of them.
        kind: Their class.
        key: Under which the configs of dpk_mm have theirs in ``default_hooks``.
        runner: Whose hooks they are.

    Returns:
        Whether ``hook`` gives way to another one.

    Raises:
        UsageError: If there are more than one by default and one of the user.
    """
    hooks = [other for other in getattr(runner, 'hooks', ()) if isinstance(other, kind)]
    if len(hooks) < 2:
        return False
    default_cfg = (runner.cfg.get('default_hooks') or {}).get(key)
    if len(hooks) > 2 or default_cfg is None:
        names = ' and '.join(type(other).__name__ for other in hooks)
        raise UsageError(
            f'{names} would do the same work in one run; keep one of them, best as default_hooks = '
            f"dict({key}=dict(type='mmrazor....')), which merges by its key."
        )
    default, other = hooks
    if type(other).__name__ == _name(default_cfg) != type(default).__name__:
        default, other = other, default  # the user's has a higher priority
    if hook is not default:
        return False
    print_log(
        f'{type(other).__name__} of custom_hooks takes the place of {type(hook).__name__} in '
        f'default_hooks.{key}.',
        'current',
    )
    for point in (*Hook.stages, 'before_save_checkpoint', 'after_load_checkpoint'):
        if hasattr(hook, point):
            setattr(hook, point, _nothing)
    return True


def _name(cfg: Any) -> str | None:
    kind = cfg.get('type') if isinstance(cfg, Mapping) else type(cfg)
    return kind.__name__ if isinstance(kind, type) else str(kind).rpartition('.')[2]


def _nothing(*args: Any, **kwargs: Any) -> None:
    """In place of what a hook does."""
