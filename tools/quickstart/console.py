"""What the demonstration shows: numbered phases, and one line that follows the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from dpk_mm.analysis.tables import format_duration
from dpk_mm.cli.progress import Progress, describe
from tools.experiments.grid import Entry
from tools.experiments.reporter import EVALUATION, TRAINING, Reporter

#: Phases before and after those of the entries: data and pictures.
_BEFORE, _AFTER = 1, 1


class PhaseConsole(Reporter):
    """Shows the phases, each with its number.

    Attributes:
        failure: What is to be said of the entry that failed; None if none did.

    Args:
        console: Where to show them.
        names: Of the entries, in order.
    """

    def __init__(self, console: Console, names: Sequence[str]) -> None:
        self.failure: str | None = None
        self._console = console
        self._names = list(names)
        self._status: Status | None = None
        self._last_epoch: int | None = None

    # What is not an entry

    def say(self, text: str) -> None:
        """Shows one line."""
        # Paths must stay whole for copying, so no wrapping.
        self._console.print(escape(text), soft_wrap=True, highlight=False)

    def data(self, text: str) -> None:
        """Shows the first phase."""
        self._say_phase(1, text)

    def pictures(self, text: str) -> None:
        """Shows the last phase."""
        self._say_phase(self._count, text)

    # The entries

    def title(self, entry: Entry) -> str:
        return entry.label

    def found(self, entry: Entry, result: Mapping[str, Any]) -> None:
        self.phase_done(entry, TRAINING, result['train_seconds'], earlier=True)
        self.phase_done(entry, EVALUATION, result['test_seconds'], earlier=True)

    def restarted(self, entry: Entry, why: str) -> None:
        self.say(f'{entry.label}: {why}, so it starts over')

    def started(self, entry: Entry, phase: str, resumed: bool, log: Path, epochs: int) -> None:
        what = 'continued' if resumed else 'started'
        self._say_phase(self._number(entry, phase), f'{entry.label}: {phase}: {what} (log: {log})')
        self._last_epoch = None
        self._status = self._console.status(f'{entry.label}: {phase}: starting')
        self._status.start()

    def progress(self, entry: Entry, phase: str, progress: Progress, epochs: int) -> None:
        if self._status is None:
            return
        text = f'{entry.label}: {phase}: {describe(progress, epochs)}'
        if self._console.is_terminal:
            self._status.update(escape(text))
        elif progress.mode == 'train' and progress.epoch != self._last_epoch:
            self._last_epoch = progress.epoch
            self.say(f'       {text}')

    def ended(self, entry: Entry, phase: str) -> None:
        if self._status is not None:
            self._status.stop()

    def phase_done(self, entry: Entry, phase: str, seconds: float, earlier: bool) -> None:
        time = format_duration(seconds)
        if earlier:
            number = self._number(entry, phase)
            self._say_phase(number, f'{entry.label}: {phase}: done earlier, in {time}')
        else:
            self.say(f'       done in {time}')

    def failed(self, entry: Entry, text: str) -> None:
        self.failure = text

    @property
    def _count(self) -> int:
        return _BEFORE + 2 * len(self._names) + _AFTER

    def _number(self, entry: Entry, phase: str) -> int:
        return _BEFORE + 2 * self._names.index(entry.name) + (1 if phase == TRAINING else 2)

    def _say_phase(self, number: int, text: str) -> None:
        self.say(f'[{number}/{self._count}] {text}')
