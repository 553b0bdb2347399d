"""What ``tools/experiments/run.py`` shows: bars of what is running, and a line for what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import (
    Progress as Bars,
)

from dpk_mm.analysis.tables import format_duration
from dpk_mm.cli.process import worker_threads
from dpk_mm.cli.progress import Progress, describe

from .grid import Entry, Grid
from .reporter import EVALUATION, TRAINING, Reporter


class GridConsole(Reporter):
    """Shows a run of a grid.

    Args:
        grid: What is run.
        results_file: Where the results go.
        workers: Entries at a time.
        console: Where to show it.
    """

    def __init__(self, grid: Grid, results_file: Path, workers: int, console: Console) -> None:
        self._grid = grid
        self._results_file = results_file
        self._workers = workers
        self._console = console
        self._bars = Bars(
            TextColumn('{task.description}'),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn('{task.fields[info]}'),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._whole: TaskID | None = None
        self._count = 0
        self._tasks: dict[str, TaskID] = {}

    def begin(self, entries: Sequence[Entry]) -> None:
        self._count = len(entries)
        self._say(
            f'{self._count} entries of {self._grid.name}, {self._workers} at a time with '
            f'OMP_NUM_THREADS={worker_threads()} each; results go to {self._results_file}'
        )
        self._bars.start()
        self._whole = self._bars.add_task(self._grid.name, total=self._count, info='')

    def end(self) -> None:
        self._bars.stop()

    def remaining(self, count: int, seconds: float | None) -> None:
        assert self._whole is not None
        info = '' if seconds is None else f'about {format_duration(seconds)} left'
        self._bars.update(self._whole, completed=self._count - count, info=info)

    def restarted(self, entry: Entry, why: str) -> None:
        self._say(f'{entry.name}: {why}, so it starts over')

    def started(self, entry: Entry, phase: str, resumed: bool, log: Path, epochs: int) -> None:
        if phase == TRAINING:
            self._say(f'{entry.name}: {"continued" if resumed else "started"}')
        info = 'starting' if phase == TRAINING else EVALUATION
        task = self._bars.add_task(f'  {escape(entry.name)}', total=None, info=info)
        self._tasks[entry.name] = task

    def progress(self, entry: Entry, phase: str, progress: Progress, epochs: int) -> None:
        if phase == TRAINING:
            done = progress.epoch if progress.mode == 'train' else epochs
            self._bars.update(
                self._tasks[entry.name],
                refresh=False,
                total=epochs,
                completed=done or 0,
                info=describe(progress, epochs),
            )

    def ended(self, entry: Entry, phase: str) -> None:
        self._bars.remove_task(self._tasks.pop(entry.name))

    def done(self, entry: Entry, result: Mapping[str, Any]) -> None:
        score = ', '.join(
            f'{part} {result["scores"][part]:.4g}'
            for part in self._grid.parts
            if result['scores'].get(part) is not None
        )
        self._say(f'{entry.name}: {score} ({format_duration(result["seconds"])})')

    def failed(self, entry: Entry, text: str) -> None:
        self._say(text, style='red')

    def skipped(self, entry: Entry, failed: str) -> None:
        self._say(f'{entry.name}: not run, since {failed} failed')

    def _say(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
