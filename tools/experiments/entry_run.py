"""Trains one entry and evaluates it; what an earlier run did is not done again."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dpk_mm.cli.process import last_lines, worker_threads
from dpk_mm.cli.progress import parse_progress
from dpk_mm.errors import UsageError

from .commands import Commands
from .grid import Entry
from .reporter import EVALUATION, TRAINING, Reporter
from .results import ResultsFile, metric_value, only_metrics, read_curves, read_validation
from .state import EntryState, last_checkpoint

#: Stands in a failure before the last lines of a command's log.
LOG_FOLLOWS = 'The last lines of'
LOGS = {TRAINING: 'train.log', EVALUATION: 'test/test.log'}
_SAVE_EVERY_SECONDS = 5.0


class Stopped(Exception):
    """The run was interrupted while a command was running."""


class EntryFailed(Exception):
    """An entry did not reach its end; the message is for the user."""


class EntryRun:
    """Brings entries of a grid to their end.

    A training that was interrupted is resumed from its newest checkpoint. One whose config, options or needed
    entries changed starts over.

    Args:
        commands: Of the grid.
        results: Of the entries that are finished.
        reporter: Where it is shown.
        run_command: Runs one command, see ``process.run_logged``.
        stop: Set to end all commands.
        keep_open: File descriptors that the commands inherit.
        about: What each result holds besides, such as the machine.
    """

    def __init__(
        self,
        commands: Commands,
        results: ResultsFile,
        reporter: Reporter,
        run_command: Callable[..., int],
        stop: threading.Event,
        keep_open: Sequence[int],
        about: dict[str, Any],
    ) -> None:
        self._commands = commands
        self._grid = commands.grid
        self._results = results
        self._reporter = reporter
        self._run_command = run_command
        self._stop = stop
        self._keep_open = tuple(keep_open)
        self._about = about

    def run(self, entry: Entry) -> dict[str, Any]:
        """Does what is missing of an entry.

        Returns:
            Its result, as a line of the results file.

        Raises:
            EntryFailed: If a command failed or left no result.
            Stopped: If the run was interrupted.
        """
        return self._run(entry, retried=False)

    def _run(self, entry: Entry, retried: bool) -> dict[str, Any]:
        folder = self._commands.folder / entry.name
        state = self._prepare(entry, folder)
        checkpoint = self._train(entry, folder, state)
        metrics: dict[str, dict[str, float]] = {}
        if 'val' in self._grid.parts:
            validation = read_validation(folder, self._commands.epochs(entry))
            if validation is None:
                # Stopped between the last checkpoint and the validation, which mmengine does not
                # make up for when it resumes a finished training.
                if retried:
                    what = 'reached its end without a validation of the last epoch'
                    raise self._failure(entry, TRAINING, what)
                self._reporter.restarted(entry, 'trained, but not validated')
                shutil.rmtree(folder)
                return self._run(entry, retried=True)
            metrics['val'] = validation
        if 'test' in self._grid.parts:
            metrics['test'] = self._test(entry, folder, checkpoint, state)
        try:
            scores = {part: metric_value(m, self._grid.metric) for part, m in metrics.items()}
        except UsageError as error:
            raise EntryFailed(f'{self._reporter.title(entry)}: {error}') from None
        # Once: students are tied to it, and need not be done again if this is only evaluated anew, or trained anew to
        # the same result.
        known = self._results.get(entry.name)
        repeated = known is None or known['scores'] == scores
        state.finished_at = state.finished_at if state.finished_at and repeated else time.time()
        state.save(folder)
        return self._result(entry, folder, state, checkpoint, metrics, scores)

    def _prepare(self, entry: Entry, folder: Path) -> EntryState:
        """The state of an entry; its folder is emptied if what is there cannot be gone on with."""
        inputs = self._commands.inputs(entry)
        found = EntryState.load(folder)
        known = self._results.get(entry.name)
        if found is None and known is not None and known['inputs'] == inputs:
            # results without their folders, such as those that the repository holds
            found = EntryState(inputs, trained=True, finished_at=known['finished_at'])
        if found is not None and found.inputs == inputs:
            if not found.trained or last_checkpoint(folder) is not None:
                return found
            self._reporter.restarted(entry, 'its checkpoint is gone')
            state = EntryState(inputs, finished_at=found.finished_at)
        else:
            if found is not None:
                self._reporter.restarted(entry, 'its settings, data or what it needs changed')
            state = EntryState(inputs)
        if folder.exists():
            shutil.rmtree(folder)
        state.save(folder)
        return state

    def _train(self, entry: Entry, folder: Path, state: EntryState) -> str:
        """Returns the checkpoint."""
        checkpoint = last_checkpoint(folder)
        if checkpoint is not None and (state.trained or self._validated(entry, folder)):
            self._reporter.phase_done(entry, TRAINING, state.train_seconds, earlier=True)
            return checkpoint
        command = self._commands.train(entry, resume=checkpoint is not None)
        self._command(entry, TRAINING, command, folder, state)
        checkpoint = last_checkpoint(folder)
        if checkpoint is None:
            raise self._failure(entry, TRAINING, 'left no checkpoint')
        state.trained = True
        state.save(folder)
        self._reporter.phase_done(entry, TRAINING, state.train_seconds, earlier=False)
        return checkpoint

    def _validated(self, entry: Entry, folder: Path) -> bool:
        if 'val' in self._grid.parts:
            with contextlib.suppress(FileNotFoundError):
                return read_validation(folder, self._commands.epochs(entry)) is not None
        return False

    def _test(
        self, entry: Entry, folder: Path, checkpoint: str, state: EntryState
    ) -> dict[str, float]:
        self._command(entry, EVALUATION, self._commands.test(entry, checkpoint), folder, state)
        try:
            content = json.loads((folder / 'test' / 'metrics.json').read_text(encoding='utf-8'))
        except (OSError, ValueError):
            raise self._failure(entry, EVALUATION, 'wrote no metrics') from None
        self._reporter.phase_done(entry, EVALUATION, state.test_seconds, earlier=False)
        return only_metrics(content)

    def _command(
        self, entry: Entry, phase: str, command: Sequence[str], folder: Path, state: EntryState
    ) -> None:
        """Runs one command, counts its time, and ends it when the run is interrupted."""
        log = folder / LOGS[phase]
        epochs = self._commands.epochs(entry)
        field = 'train_seconds' if phase == TRAINING else 'test_seconds'
        before = getattr(state, field)
        start = saved = time.monotonic()

        def tick() -> None:
            nonlocal saved
            if self._stop.is_set():
                raise Stopped
            now = time.monotonic()
            setattr(state, field, before + now - start)
            if now - saved >= _SAVE_EVERY_SECONDS:  # in case of a kill
                saved = now
                state.save(folder)

        def read(line: str) -> None:
            progress = parse_progress(line)
            if progress is not None:
                self._reporter.progress(entry, phase, progress, epochs)

        self._reporter.started(entry, phase, '--resume' in command, log, epochs)
        try:
            status = self._run_command(
                command,
                log,
                cwd=self._commands.root,
                on_line=read,
                on_tick=tick,
                keep_open=self._keep_open,
            )
        finally:
            setattr(state, field, before + time.monotonic() - start)
            state.save(folder)
            self._reporter.ended(entry, phase)
        if status != 0:
            raise self._failure(entry, phase, f'ended with exit status {status}')

    def _failure(self, entry: Entry, phase: str, what: str) -> EntryFailed:
        log = self._commands.folder / entry.name / LOGS[phase]
        tail = '\n'.join(f'    {line}' for line in last_lines(log))
        return EntryFailed(
            f'{self._reporter.title(entry)}: {phase} {what}. {LOG_FOLLOWS} {log}:\n{tail}\n'
            f'The whole log: {log}'
        )

    def _result(
        self,
        entry: Entry,
        folder: Path,
        state: EntryState,
        checkpoint: str,
        metrics: dict[str, dict[str, float]],
        scores: dict[str, float],
    ) -> dict[str, Any]:
        teacher = None if entry.teacher is None else self._results[entry.teacher]
        threads = worker_threads()
        return {
            'grid': self._grid.name,
            'title': self._grid.title,
            'entry': entry.name,
            'method': entry.method,
            'label': entry.label,
            'setting': dict(entry.setting),
            'seed': entry.seed,
            'metric': self._grid.metric,
            'scores': scores,
            'metrics': metrics,
            'teacher': None if teacher is None else teacher['label'] or teacher['entry'],
            'teacher_scores': None if teacher is None else teacher['scores'],
            **read_curves(folder),
            'seconds': round(state.seconds, 1),
            'train_seconds': round(state.train_seconds, 1),
            'test_seconds': round(state.test_seconds, 1),
            'threads': int(threads) if threads.isdigit() else threads,
            **self._about,
            'config': self._commands.shown_config(entry),
            'options': self._commands.own_options(entry),
            'checkpoint': f'{entry.name}/{Path(checkpoint).name}',
            'inputs': state.inputs,
            'finished_at': state.finished_at,
        }
