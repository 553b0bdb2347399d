"""What is known of one entry, kept in its folder so that a second run does only what is missing."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from dpk_mm.fileio import write_json_atomically

STATE_FILE = 'phase.json'


@dataclass
class EntryState:
    """State of one entry.

    Attributes:
        inputs: Digest of all that the result depends on; another one means to start over.
        trained: Whether the training reached its end.
        train_seconds: Wall-clock time of the training so far, interrupted attempts included.
        test_seconds: The same of the evaluation.
        finished_at: Time of completion in seconds since the epoch; entries that build on this one
            take it into their inputs.
    """

    inputs: str
    trained: bool = False
    train_seconds: float = 0.0
    test_seconds: float = 0.0
    finished_at: float = 0.0

    @property
    def seconds(self) -> float:
        """Time of training and evaluation together."""
        return self.train_seconds + self.test_seconds

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the state to ``folder``, whole or not at all."""
        write_json_atomically(Path(folder) / STATE_FILE, asdict(self))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> EntryState | None:
        """Reads the state in ``folder``; None if there is none that can be read."""
        try:
            content = json.loads((Path(folder) / STATE_FILE).read_text(encoding='utf-8'))
            # Earlier versions wrote other fields beside these.
            return cls(**{f.name: content[f.name] for f in fields(cls) if f.name in content})
        except (FileNotFoundError, ValueError, TypeError):
            return None


def last_checkpoint(work_dir: Path) -> str | None:
    """Returns the newest checkpoint that a training finished writing, None if it is not there.

    mmengine names it in the file ``last_checkpoint``, after the checkpoint itself is whole.
    """
    try:
        checkpoint = (work_dir / 'last_checkpoint').read_text(encoding='utf-8').strip()
    except FileNotFoundError:
        return None
    if not checkpoint:
        return None
    # the path is absolute, and the folder may have been moved or copied since
    for path in (work_dir / Path(checkpoint).name, Path(checkpoint)):
        if path.is_file():
            return str(path)
    return None
