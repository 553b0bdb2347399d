"""What is known of one phase, kept in its folder so that a second run does only what is missing."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from ..fileio import write_json_atomically

STATE_FILE = 'phase.json'


@dataclass
class PhaseState:
    """State of one phase.

    Attributes:
        inputs: Digest of all that the result depends on; another one means to start over.
        complete: Whether the phase reached its end.
        seconds: Wall-clock time spent so far, interrupted attempts included.
        finished_at: Time of completion in seconds since the epoch; phases that build on this one
            take it into their inputs.
        result: What the phase found out.
    """

    inputs: str
    complete: bool = False
    seconds: float = 0.0
    finished_at: float = 0.0
    result: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the state to `folder`, whole or not at all."""
        write_json_atomically(Path(folder) / STATE_FILE, asdict(self))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> PhaseState | None:
        """Reads the state in `folder`; None if there is none that can be read."""
        try:
            return cls(**json.loads((Path(folder) / STATE_FILE).read_text(encoding='utf-8')))
        except (FileNotFoundError, ValueError, TypeError):
            return None


@contextmanager
def exclusive(folder: str | os.PathLike[str]) -> Iterator[IO[str]]:
    """Holds `folder` against a second run.

    The lock goes with the open file: a command that gets the file passed holds it too, so a
    training left alone by a killed driver keeps the next one out until it has ended.

    Yields:
        The open lock file.

    Raises:
        BlockingIOError: If another process holds the folder.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with open(Path(folder) / '.lock', 'a') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f'Another quickstart, or a training it left, is running in {folder}: wait for it '
                'or stop it first.'
            ) from None
        yield file
