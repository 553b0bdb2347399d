"""mmengine writes checkpoints in place, and deletes the one before it first.

``LocalBackend.put`` opens the final file and fills it, so a run that is killed meanwhile, or
finds the disk full, leaves a truncated checkpoint, and ``last_checkpoint`` can be left empty in
the same way. With ``max_keep_ckpts=1`` there is then no other one: ``CheckpointHook`` removes
what is too old before it writes, and so it does with the best checkpoint.

Here a file gets its name once it is complete and on the disk, and deletions wait until then.

A checkpoint also holds the full path of the best one. A run that is resumed from it in another work
folder, or in a copy, would delete the best checkpoint of the first run at its own next best score;
here it knows only what lies in its own folder.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import without_period
from ..fileio import DiskFullError, replacing, write_bytes_atomically
from ._patch import Patch, is_installed

_NUMBERED = re.compile(r'(epoch|iter)_(\d+)\.pth')


def numbered_checkpoints(folder: str | os.PathLike[str]) -> list[Path]:
    """The checkpoints that training left in a folder, the newest first.

    Args:
        folder: Looked at for ``epoch_<n>.pth`` and ``iter_<n>.pth``; it need not exist.

    Returns:
        Paths in descending order of their numbers; of both kinds, epochs come first.
    """
    found = [(_NUMBERED.fullmatch(path.name), path) for path in Path(folder).glob('*.pth')]
    order = sorted((m[1] == 'epoch', int(m[2]), path) for m, path in found if m)
    return [path for *_, path in reversed(order)]


def put(self: Any, obj: bytes, filepath: str | os.PathLike[str]) -> None:
    """Takes the place of ``LocalBackend.put``.

    Args:
        obj: Content of the file.
        filepath: The file.

    Raises:
        DiskFullError: If there is no space left; for a checkpoint the message names the last good one.
    """
    target = Path(filepath)
    if target.exists() and not target.is_file():  # a device or a pipe has no name to be replaced
        with open(target, 'wb') as file:
            file.write(obj)
        return
    try:
        write_bytes_atomically(target, obj)
    except DiskFullError as error:
        if target.suffix != '.pth':
            raise
        raise DiskFullError(error.errno, _explain(error, target, len(obj))) from error


def _explain(error: DiskFullError, target: Path, size: int) -> str:
    kept = [path for path in numbered_checkpoints(target.parent) if path.name != target.name]
    last = (
        f'the last good checkpoint is {kept[0]}; make room there and continue with --resume.'
        if kept
        else 'there is no checkpoint before it; make room there, or choose another --work-dir.'
    )
    return (
        f'{without_period(error.strerror)}, and this checkpoint needs {size / 1e6:.1f} MB; {last}'
    )


class _LateRemoval:
    """A storage backend whose removals wait for :meth:`finish`."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._waiting: list[tuple[Callable[[Any], None], Any, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: Any) -> None:
        self._waiting.append((self._backend.remove, path, _identity(path)))

    def rmtree(self, path: Any) -> None:
        self._waiting.append((self._backend.rmtree, path, _identity(path)))

    def finish(self) -> None:
        for removal, path, identity in self._waiting:
            if _identity(path) == identity:  # else it was written anew in the meantime
                removal(path)


def _identity(path: Any) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, TypeError, ValueError):  # a remote address
        return None
    return found.st_ino, found.st_mtime_ns


def _removing_last(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        backend = self.file_backend
        self.file_backend = late = _LateRemoval(backend)
        try:
            result = method(self, *args, **kwargs)
        finally:
            self.file_backend = backend
        late.finish()  # not after an exception: the new file may be missing then
        return result

    return wrapper


def _keeping_to_own_best(before_train: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(before_train)
    def wrapper(self: Any, runner: Any) -> None:
        before_train(self, runner)

        def own(path: str | None) -> str | None:
            if not path:
                return None
            # as the hook names it, so that remote folders have no rule of their own
            path = self.file_backend.join_path(self.out_dir, os.path.basename(path))
            # of DeepSpeed it is a folder
            found = self.file_backend.isfile(path) or self.file_backend.isdir(path)
            return path if found else None

        # The score stays: it is still the one to beat. Only the first rank deletes by these paths, so it does not
        # matter if another one does not see its files.
        if getattr(self, 'best_ckpt_path', None):
            self.best_ckpt_path = own(self.best_ckpt_path)
        for key, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[key] = own(path)

    return wrapper


def _skipping_none(publish: Callable[..., None]) -> Callable[..., None]:
    """Of several metrics mmengine publishes the best checkpoint of each, even where there is none."""

    @functools.wraps(publish)
    def wrapper(self: Any, runner: Any, ckpt_path: str | None) -> None:
        if ckpt_path is not None:
            publish(self, runner, ckpt_path)

    return wrapper


@contextmanager
def _open_atomically(path: str, mode: str) -> Iterator[Any]:
    """Takes the place of ``open`` in mmengine's hook, which writes ``last_checkpoint`` by it."""
    with replacing(path, durable=False) as temporary, open(temporary, mode) as file:
        yield file


def needed() -> bool:
    """Whether mmengine still writes checkpoints in place."""
    if not is_installed('mmengine'):
        return False
    from mmengine.fileio import LocalBackend

    return LocalBackend.put.__module__.startswith('mmengine.')


def apply() -> None:
    """Lets mmengine write checkpoints atomically, and delete old ones of its own folder afterwards."""
    from mmengine.fileio import LocalBackend
    from mmengine.hooks import CheckpointHook, checkpoint_hook

    LocalBackend.put = put
    for name in ('_save_checkpoint_with_step', '_save_best_checkpoint'):
        setattr(CheckpointHook, name, _removing_last(getattr(CheckpointHook, name)))
    CheckpointHook.before_train = _keeping_to_own_best(CheckpointHook.before_train)
    CheckpointHook._publish_model = _skipping_none(CheckpointHook._publish_model)
    checkpoint_hook.open = _open_atomically


PATCH = Patch(
    name='atomic_checkpoints',
    symptom='a run that is killed while it saves leaves a truncated checkpoint, and no other',
    threads=(),
    obsolete_when='a release of mmengine writes checkpoints under a temporary name and deletes '
    'old ones afterwards',
    needed=needed,
    apply=apply,
)
