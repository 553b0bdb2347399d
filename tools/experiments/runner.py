"""Trains and evaluates what is missing of a grid, several entries at a time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from dpk_mm.cli.lock import exclusive
from dpk_mm.cli.process import run_logged
from dpk_mm.errors import UsageError

from .commands import Commands
from .entry_run import EntryFailed, EntryRun
from .grid import Entry, Grid
from .reporter import Reporter
from .results import RESULTS_FILE, ResultsFile, describe_machine, git_commit
from .state import last_checkpoint


@dataclass
class Summary:
    """What a run of the runner did: names of entries, and of those that failed the sentence that says why."""

    done: list[str] = field(default_factory=list)
    earlier: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)


class GridRunner:
    """Does what is missing of a grid.

    Each entry has a folder, ``<folder>/<entry>``, and when it is finished a line in the results file. An entry is done
    again if its config, its options, or the entries that it needs are no longer what the line was made with. A training
    that was interrupted is resumed from its newest checkpoint.

    Args:
        grid: What is to be done.
        root: The repository; commands run there.
        folder: Folder of all results.
        data_options: ``--cfg-options`` that point to the data; they do not count as a change.
        extra_options: More ``--cfg-options`` of every command, which go over all others.
        workers: Entries at a time.
        reporter: Where it is shown; None for nowhere.
        run_command: Runs one command, see ``process.run_logged``.
        python: Interpreter of the commands.
        results_name: Name of the results file in the folder.
        stop_at_failure: Whether nothing is begun any more after an entry failed; otherwise the entries go on that do
            not need it.
        keep_checkpoints: Whether an entry is done again when its checkpoint is gone; otherwise only those are that
            an entry needs which is not finished.
    """

    def __init__(
        self,
        grid: Grid,
        root: Path,
        folder: Path,
        data_options: Mapping[str, Any] | None = None,
        extra_options: Mapping[str, Any] | None = None,
        workers: int = 1,
        reporter: Reporter | None = None,
        run_command: Callable[..., int] = run_logged,
        python: str = sys.executable,
        results_name: str = RESULTS_FILE,
        stop_at_failure: bool = False,
        keep_checkpoints: bool = False,
    ) -> None:
        if workers < 1:
            raise UsageError(f'--workers must be at least 1, got {workers}.')
        self.grid = grid
        self.root = root
        self.folder = folder
        self.workers = workers
        self.results = ResultsFile(folder / results_name, [e.name for e in grid.entries])
        self.commands = Commands(
            grid, root, folder, self.results, data_options, extra_options, python
        )
        self._reporter = reporter or Reporter()
        self._run_command = run_command
        self._stop_at_failure = stop_at_failure
        self._keep_checkpoints = keep_checkpoints
        self._stop = threading.Event()

    def run(self, only: str | None = None, lock: IO[str] | None = None) -> Summary:
        """Trains and evaluates all selected entries that have no valid result.

        Args:
            only: Shell pattern of names; the entries that they need come along. None for all.
            lock: That of the folder, see ``dpk_mm.cli.lock.exclusive``, if the caller holds it.

        Returns:
            What was done. An entry that fails is named there.

        Raises:
            UsageError: If a config is missing, a command line cannot hold an option, nothing matches, or another run
                holds the folder.
            KeyboardInterrupt: After all commands were ended.
        """
        entries = self.grid.select(only)
        for entry in entries:
            self.commands.check(entry)
        with exclusive(self.folder) if lock is None else nullcontext(lock) as held:
            about = {
                'workers': self.workers,
                'commit': git_commit(self.root),
                **describe_machine(),
            }
            self.results.load()
            entry_run = EntryRun(
                self.commands,
                self.results,
                self._reporter,
                self._run_command,
                self._stop,
                (held.fileno(),),
                about,
            )
            return self._run_all(entries, entry_run)

    def status(self, only: str | None = None) -> dict[str, str]:
        """Name -> ``'done'``, ``'started'`` or ``'missing'`` of the selected entries."""
        self.results.load()
        found = {}
        entries = self.grid.select(only)
        for entry in entries:
            if self._finished(entry, entries):
                found[entry.name] = 'done'
            else:
                started = last_checkpoint(self.folder / entry.name) is not None
                found[entry.name] = 'started' if started else 'missing'
        return found

    def of_these_settings(self) -> list[dict[str, Any]]:
        """Results of the grid's entries that were made with the configs, options and teachers that these have now."""
        self.results.load()
        return [self.results[entry.name] for entry in self.grid.entries if self._valid(entry)]

    def _run_all(self, entries: Sequence[Entry], entry_run: EntryRun) -> Summary:
        summary = Summary()
        waiting = list(entries)
        running: dict[Future[dict[str, Any]], Entry] = {}
        self._stop.clear()
        pool = ThreadPoolExecutor(self.workers)
        self._reporter.begin(entries)
        try:
            while waiting or running:
                for entry in list(waiting):
                    failed = self._failed_before(entry, summary)
                    unfinished = {e.name for e in [*waiting, *running.values()]}
                    if failed is not None:
                        waiting.remove(entry)
                        summary.skipped.append(entry.name)
                        self._drop_stale(entry)
                        self._reporter.skipped(entry, failed)
                    elif not unfinished.isdisjoint(entry.needs):
                        continue
                    elif self._finished(entry, entries):
                        waiting.remove(entry)
                        summary.earlier.append(entry.name)
                        self._reporter.found(entry, self.results[entry.name])
                    elif len(running) < self.workers:
                        waiting.remove(entry)
                        running[pool.submit(self._run_entry, entry, entry_run)] = entry
                left = len(waiting) + len(running)
                self._reporter.remaining(left, self._seconds_left(left))
                if not running:
                    continue
                # again and again: a signal that comes just before a wait does not end it
                done: set[Future[dict[str, Any]]] = set()
                while not done:
                    done = wait(running, timeout=1, return_when=FIRST_COMPLETED).done
                for future in done:
                    self._settle(running.pop(future), future, summary)
        finally:
            # Also after Ctrl-C: the threads see it at their next tick and end their commands.
            self._stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self._reporter.end()
        return summary

    def _failed_before(self, entry: Entry, summary: Summary) -> str | None:
        """The entry whose failure keeps this one from being run."""
        lost = [*summary.failed, *summary.skipped]
        if not self._stop_at_failure:
            lost = [name for name in lost if name in entry.needs]
        return min(lost, default=None)

    def _run_entry(self, entry: Entry, entry_run: EntryRun) -> dict[str, Any]:
        self._drop_stale(entry)
        result = entry_run.run(entry)
        self.results.record(entry.name, result)
        return result

    def _drop_stale(self, entry: Entry) -> None:
        """Takes away a result of other settings: it is not to be reported any more."""
        if not self._valid(entry):
            self.results.record(entry.name, None)

    def _settle(self, entry: Entry, future: Future[dict[str, Any]], summary: Summary) -> None:
        try:
            result = future.result()
        except EntryFailed as error:
            summary.failed.append(entry.name)
            summary.reasons[entry.name] = str(error)
            self._reporter.failed(entry, str(error))
        except Exception as error:  # an error of our own is a failure of this entry, too
            summary.failed.append(entry.name)
            title = self._reporter.title(entry)
            self._reporter.failed(entry, f'{title}: {type(error).__name__}: {error}')
        else:
            summary.done.append(entry.name)
            self._reporter.done(entry, result)

    def _seconds_left(self, left: int) -> float | None:
        seconds = [result['seconds'] for result in self.results if result.get('seconds')]
        if not seconds or not left:
            return None
        return sum(seconds) / len(seconds) * left / min(self.workers, left)

    def _valid(self, entry: Entry) -> bool:
        """Whether its result, and those of the entries that it needs, are of the settings that these have now."""
        result = self.results.get(entry.name)
        return (
            result is not None
            and all(self._valid(self.grid[name]) for name in entry.needs)
            and result.get('metric') == self.grid.metric
            and result['inputs'] == self.commands.inputs(entry)
        )

    def _finished(self, entry: Entry, among: Sequence[Entry]) -> bool:
        """Whether nothing of it is missing: a result, and its checkpoint if one of ``among`` that is not needs it."""
        if not self._valid(entry):
            return False
        if (self.folder / self.results[entry.name]['checkpoint']).is_file():
            return True
        return not self._keep_checkpoints and all(
            self._finished(other, among) for other in among if entry.name in other.needs
        )
