"""Atomic writes: a reader finds the old file or the new one, even if the writer is killed."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_TEMPORARY = re.compile(r'\..+\.(\d+)\.tmp')
_FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFullError(OSError):
    """A file could not be written because the disk is full; an older file of that name stays."""

    def __str__(self) -> str:
        return str(self.strerror)  # the sentence without the error's number


@contextmanager
def replacing(path: str | os.PathLike[str], durable: bool = True) -> Iterator[Path]:
    """Gives a temporary file to write, which takes the place of ``path`` when the block is left.

    If the process is killed, the old file or the new one is there, never a part. A link is followed.
    After an exception the temporary file is removed, after a kill by :func:`remove_leftovers`.

    Args:
        path: The file; its folder is made if need be.
        durable: Whether the content has to be on the disk (fsync) before the name is, so that the
            same holds for a loss of power. On a busy disk that can take seconds.

    Yields:
        The file to write, in the same folder.

    Raises:
        DiskFullError: If there is no space left; the message names file and folder.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            with open(temporary, 'rb') as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        if error.errno not in _FULL or isinstance(error, DiskFullError):
            raise
        raise DiskFullError(error.errno, _full(path, temporary)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes_atomically(path: str | os.PathLike[str], content: bytes | memoryview) -> None:
    """Writes ``content`` to ``path``, whole or not at all.

    Args:
        path: The file; its folder is made if need be.
        content: All of it.

    Raises:
        DiskFullError: If there is no space left.
    """
    with replacing(path) as temporary, open(temporary, 'wb') as file:
        file.write(content)


def write_text_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Writes ``text`` to ``path`` in UTF-8, whole or not at all."""
    with replacing(path, durable=False) as temporary:
        temporary.write_text(text, encoding='utf-8')


def write_json_atomically(path: str | os.PathLike[str], content: Any) -> None:
    """Writes ``content`` as JSON to ``path``, whole or not at all."""
    write_text_atomically(path, json.dumps(content, indent=1) + '\n')


def remove_leftovers(folder: str | os.PathLike[str]) -> list[str]:
    """Removes the temporary files that killed writers left in a folder.

    Args:
        folder: Looked at without its subfolders; it need not exist.

    Returns:
        The names of the removed files. Those of processes that live are left alone.
    """
    removed = []
    for path in sorted(Path(folder).glob('.*.tmp')):
        match = _TEMPORARY.fullmatch(path.name)
        if match and not _alive(int(match[1])):
            path.unlink(missing_ok=True)
            removed.append(path.name)
    return removed


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _sync_folder(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # not every system opens folders; the file itself is on the disk
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def _full(path: Path, temporary: Path) -> str:
    # the temporary file is removed afterwards, so its size counts as free
    free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
    written = temporary.stat().st_size if temporary.is_file() else 0
    kept = ', which stays as it was' if path.is_file() else ''
    return (
        f'{path} could not be written{kept}: the disk or the quota of {path.parent} is full '
        f'({(free + written) / 1e6:.1f} MB free).'
    )
