"""A folder that one run at a time writes to."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import UsageError


@contextmanager
def exclusive(folder: str | os.PathLike[str]) -> Iterator[IO[str]]:
    """Holds ``folder`` against a second run.

    The lock goes with the open file: a command that gets the file passed holds it too, so a
    training that outlives a killed driver keeps the next one out until it has ended.

    Yields:
        The open lock file.

    Raises:
        UsageError: If another process holds the folder.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with open(Path(folder) / '.lock', 'a') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f'Another run, or a training that it left, is running in {folder}: wait for it or '
                'stop it first.'
            ) from None
        yield file
