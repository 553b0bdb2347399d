"""What a run of a grid says while it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpk_mm.cli.progress import Progress

from .grid import Entry

TRAINING = 'training'
EVALUATION = 'evaluation'


class Reporter:
    """Says nothing; what a console shows is in its subclasses.

    Methods may be called from several threads at a time.
    """

    def title(self, entry: Entry) -> str:
        """What an entry is called in messages."""
        return entry.name

    def begin(self, entries: Sequence[Entry]) -> None:
        """The run begins, with these entries selected."""

    def end(self) -> None:
        """The run ended, in whatever way."""

    def remaining(self, count: int, seconds: float | None) -> None:
        """So many entries are left, for about so many seconds."""

    def found(self, entry: Entry, result: Mapping[str, Any]) -> None:
        """An entry was finished by an earlier run."""

    def restarted(self, entry: Entry, why: str) -> None:
        """An entry starts over."""

    def started(self, entry: Entry, phase: str, resumed: bool, log: Path, epochs: int) -> None:
        """A phase, `TRAINING` or `EVALUATION`, begins or goes on."""

    def progress(self, entry: Entry, phase: str, progress: Progress, epochs: int) -> None:
        """A line of the log of a phase."""

    def ended(self, entry: Entry, phase: str) -> None:
        """The command of a phase ended, in whatever way."""

    def phase_done(self, entry: Entry, phase: str, seconds: float, earlier: bool) -> None:
        """A phase is complete; ``earlier`` if it was already, by an earlier run."""

    def done(self, entry: Entry, result: Mapping[str, Any]) -> None:
        """An entry is finished."""

    def failed(self, entry: Entry, text: str) -> None:
        """An entry failed; the text is for the user."""

    def skipped(self, entry: Entry, failed: str) -> None:
        """An entry is not run, since another one failed."""
