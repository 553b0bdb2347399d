"""Trains and evaluates what is missing of a grid, several entries at a time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dpk_mm.errors import UsageError

from ..analysis.tables import format_duration
from ..quickstart.driver import describe
from ..quickstart.process import last_lines, parse_progress, run_logged
from ..quickstart.report import last_checkpoint
from ..quickstart.state import PhaseState, exclusive
from .grid import Entry, Grid, format_options
from .results import (
    RESULTS_FILE,
    describe_machine,
    git_commit,
    metric_value,
    only_metrics,
    read_curves,
    read_results,
    read_validation,
    usable_cores,
    write_results,
)

TRAIN_LOG = 'train.log'
TEST_LOG = 'test.log'
_SAVE_EVERY_SECONDS = 5.0


class Stopped(Exception):
    """The runner was told to stop while a command ran."""


class EntryFailed(Exception):
    """An entry did not reach its end; the message is for the user."""


@dataclass
class Summary:
    """What a run of the runner did; names of entries."""

    done: list[str] = field(default_factory=list)
    earlier: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


class GridRunner:
    """Does what is missing of a grid.

    Each entry has a folder, `<work dir>/<grid>/<entry>`, and when it is finished a line in
    `<work dir>/<grid>/results.jsonl`. An entry is done again if its config, its options, or the
    entries that it needs are no longer what the line was made with. A training that was interrupted is resumed
    from its newest checkpoint.

    Args:
        grid: What is to be done.
        root: The repository; commands run there.
        work_dir: Folder of all results.
        data_options: `--cfg-options` that point to the data; they do not count as a change.
        extra_options: More `--cfg-options` of every command, which go over all others.
        workers: Entries at a time; the cores are divided among them.
        console: Where it is told.
        run_command: Runs one command, see `quickstart.process.run_logged`.
        python: Interpreter of the commands.
    """

    def __init__(
        self,
        grid: Grid,
        root: Path,
        work_dir: Path,
        data_options: Mapping[str, Any] | None = None,
        extra_options: Mapping[str, Any] | None = None,
        workers: int = 1,
        console: Console | None = None,
        run_command: Callable[..., int] = run_logged,
        python: str = sys.executable,
    ) -> None:
        if workers < 1:
            raise UsageError(f'--workers must be at least 1, got {workers}')
        self.grid = grid
        self.root = root
        self.folder = work_dir.resolve() / grid.name
        self.results_file = self.folder / RESULTS_FILE
        self.workers = workers
        self.threads = max(1, usable_cores() // workers)
        self.console = console or Console()
        self._data_options = dict(data_options or {})
        self._extra_options = dict(extra_options or {})
        self._run_command = run_command
        self._python = python
        self._configs: dict[str, Any] = {}
        self._stop = threading.Event()
        self._write_lock = threading.Lock()
        self._results: dict[str, dict[str, Any]] = {}
        self._keep_open: tuple[int, ...] = ()
        self._about: dict[str, Any] = {}

    def run(self, only: str | None = None) -> Summary:
        """Trains and evaluates all selected entries that have no valid result.

        Args:
            only: Shell pattern of names; the entries that they need come along. None for all.

        Returns:
            What was done. An entry that fails does not stop the others, except its students.

        Raises:
            UsageError: If a config is missing, nothing matches, or another run holds the folder.
            KeyboardInterrupt: After all commands were ended.
        """
        entries = self.grid.select(only)
        for entry in entries:
            self._config(entry)
        try:
            with exclusive(self.folder) as lock:
                self._keep_open = (lock.fileno(),)
                self._about = {'commit': git_commit(self.root), **describe_machine()}
                self._load_results()
                return self._run_all(entries)
        except BlockingIOError:
            raise UsageError(
                f'another run, or a training that it left, holds {self.folder}: wait for it or stop '
                'it first'
            ) from None

    def status(self, only: str | None = None) -> dict[str, str]:
        """Name -> `'done'`, `'started'` or `'missing'` of the selected entries."""
        self._load_results()
        found = {}
        for entry in self.grid.select(only):
            if self._finished(entry):
                found[entry.name] = 'done'
            else:
                started = last_checkpoint(self.folder / entry.name) is not None
                found[entry.name] = 'started' if started else 'missing'
        return found

    # Which entries, in which order

    def _run_all(self, entries: Sequence[Entry]) -> Summary:
        summary = Summary()
        waiting = list(entries)
        running: dict[Future[None], Entry] = {}
        self._stop.clear()
        self._say(
            f'{len(entries)} entries of {self.grid.name}, {self.workers} at a time with '
            f'{self.threads} threads each; results go to {self.results_file}'
        )
        pool = ThreadPoolExecutor(self.workers)
        columns = (
            TextColumn('{task.description}'),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn('{task.fields[info]}'),
        )
        progress = Progress(
            *columns, console=self.console, disable=not self.console.is_terminal, transient=True
        )
        with progress:
            bar = progress.add_task(self.grid.name, total=len(entries), info='')
            try:
                while waiting or running:
                    for entry in list(waiting):
                        lost = {*summary.failed, *summary.skipped}.intersection(entry.needs)
                        unfinished = {e.name for e in [*waiting, *running.values()]}
                        if lost:
                            waiting.remove(entry)
                            summary.skipped.append(entry.name)
                            self._say(f'{entry.name}: not run, since {min(lost)} failed')
                        elif not unfinished.isdisjoint(entry.needs):
                            continue
                        elif self._finished(entry):
                            waiting.remove(entry)
                            summary.earlier.append(entry.name)
                        elif len(running) < self.workers:
                            waiting.remove(entry)
                            future = pool.submit(self._run_entry, entry, progress)
                            running[future] = entry
                    left = len(waiting) + len(running)
                    progress.update(bar, completed=len(entries) - left, info=self._eta(left))
                    if not running:
                        continue
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        entry = running.pop(future)
                        self._settle(entry, future, summary)
            finally:
                # Also after Ctrl-C: the threads see it at their next tick and end their commands.
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
        return summary

    def _settle(self, entry: Entry, future: Future[None], summary: Summary) -> None:
        try:
            future.result()
        except Exception as error:  # whatever it is, the other entries are not to suffer
            summary.failed.append(entry.name)
            known = isinstance(error, EntryFailed)
            told = str(error) if known else f'{entry.name}: {type(error).__name__}: {error}'
            self._say(told, style='red')
        else:
            summary.done.append(entry.name)

    def _eta(self, left: int) -> str:
        seconds = [r['seconds'] for r in self._results.values() if r.get('seconds')]
        if not seconds or not left:
            return ''
        rough = sum(seconds) / len(seconds) * left / min(self.workers, left)
        return f'about {format_duration(rough)} left'

    # One entry

    def options(self, entry: Entry) -> dict[str, Any]:
        """All `--cfg-options` of an entry's commands; the entries that it needs have to be finished."""
        return {
            **self.grid.options,
            **entry.options,
            **{key: str(self._checkpoint(name)) for key, name in entry.checkpoints.items()},
            'randomness.seed': entry.seed,
            **self._data_options,
            **self._extra_options,
        }

    def train_command(self, entry: Entry, resume: bool) -> list[str]:
        """Command that trains an entry."""
        folder = self.folder / entry.name
        command = [*self._interpreter(), 'tools/train.py', entry.config, '--work-dir', str(folder)]
        if entry.teacher is not None:
            command += ['--teacher-ckpt', str(self._checkpoint(entry.teacher))]
        if resume:
            command.append('--resume')
        return [*command, '--cfg-options', *format_options(self.options(entry))]

    def test_command(self, entry: Entry, checkpoint: str) -> list[str]:
        """Command that evaluates an entry on the held-out part."""
        folder = self.folder / entry.name / 'test'
        command = [*self._interpreter(), 'tools/test.py', entry.config, checkpoint]
        command += ['--work-dir', str(folder), '--out', str(folder / 'metrics.json')]
        return [*command, '--cfg-options', *format_options(self.options(entry))]

    def _checkpoint(self, name: str) -> Path:
        return self.folder / self._results[name]['checkpoint']

    def _interpreter(self) -> list[str]:
        # On the command line, so that the log shows it.
        return ['env', f'OMP_NUM_THREADS={self.threads}', self._python]

    def _run_entry(self, entry: Entry, progress: Progress) -> None:
        task = progress.add_task(f'  {escape(entry.name)}', total=None, info='starting')
        if self._results.get(entry.name, {}).get('inputs') != self._inputs(entry):
            self._record(entry, None)  # a line of other settings must not be reported any more
        try:
            result = self._train_and_test(
                entry, lambda **state: progress.update(task, refresh=False, **state)
            )
        finally:
            progress.remove_task(task)
        self._record(entry, result)
        score = ', '.join(
            f'{part} {result["scores"][part]:.4g}'
            for part in self.grid.parts
            if result['scores'].get(part) is not None
        )
        self._say(f'{entry.name}: {score} ({format_duration(result["seconds"])})')

    def _record(self, entry: Entry, result: dict[str, Any] | None) -> None:
        with self._write_lock:
            if self._results.pop(entry.name, None) is None and result is None:
                return
            if result is not None:
                self._results[entry.name] = result
            # In the grid's order, which is that of the tables, whatever was finished first.
            order = {e.name: i for i, e in enumerate(self.grid.entries)}
            lines = sorted(self._results.values(), key=lambda r: order.get(r['entry'], -1))
            write_results(self.results_file, lines)

    def _train_and_test(self, entry: Entry, show: Callable[..., None]) -> dict[str, Any]:
        folder = self.folder / entry.name
        inputs = self._inputs(entry)
        state = PhaseState.load(folder)
        if state is None or state.inputs != inputs:
            if state is not None:
                self._say(f'{entry.name}: its settings or what it needs changed, so it starts over')
            if folder.exists():
                shutil.rmtree(folder)
            state = PhaseState(inputs)
            state.save(folder)
        epochs = self._epochs(entry)
        self._train(entry, folder, state, epochs, show)
        checkpoint = last_checkpoint(folder)
        if checkpoint is None:
            raise EntryFailed(self._failure(entry, 'left no checkpoint', folder / TRAIN_LOG))
        metrics: dict[str, dict[str, float]] = {}
        if 'val' in self.grid.parts:
            validation = read_validation(folder, epochs)
            if validation is None:
                # Stopped between the last checkpoint and the validation, which mmengine does not
                # make up for when it resumes a finished training.
                self._say(f'{entry.name}: trained, but not validated, so it starts over')
                shutil.rmtree(folder)
                return self._train_and_test(entry, show)
            metrics['val'] = validation
        if 'test' in self.grid.parts:
            show(info='evaluation')
            metrics['test'] = self._test(entry, folder, checkpoint, state)
        try:
            scores = {part: metric_value(m, self.grid.metric) for part, m in metrics.items()}
        except UsageError as error:
            raise EntryFailed(f'{entry.name}: {error}') from None
        # Once: students are tied to it, and need not be done again if this is only evaluated anew.
        state.finished_at = state.finished_at or time.time()
        state.save(folder)
        teacher = None if entry.teacher is None else self._results[entry.teacher]
        return {
            'grid': self.grid.name,
            'title': self.grid.title,
            'entry': entry.name,
            'method': entry.method,
            'label': entry.label,
            'setting': dict(entry.setting),
            'seed': entry.seed,
            'metric': self.grid.metric,
            'scores': scores,
            'metrics': metrics,
            'teacher': None if teacher is None else teacher['label'] or teacher['entry'],
            'teacher_scores': None if teacher is None else teacher['scores'],
            **read_curves(folder),
            'seconds': round(state.seconds, 1),
            'threads': self.threads,
            'workers': self.workers,
            **self._about,
            'config': entry.config,
            'options': {**self.grid.options, **entry.options, **self._extra_options},
            'checkpoint': f'{entry.name}/{Path(checkpoint).name}',
            'inputs': inputs,
            'finished_at': state.finished_at,
        }

    def _train(
        self, entry: Entry, folder: Path, state: PhaseState, epochs: int, show: Callable[..., None]
    ) -> None:
        resume = last_checkpoint(folder) is not None
        if resume and 'val' in self.grid.parts and self._validated(folder, epochs):
            return
        command = self.train_command(entry, resume)
        self._say(f'{entry.name}: {"continued" if resume else "started"}')

        def read(line: str) -> None:
            said = parse_progress(line)
            if said is not None:
                done = said.epoch if said.mode == 'train' else epochs
                show(total=epochs, completed=done or 0, info=describe(said, epochs))

        self._command(entry, command, folder / TRAIN_LOG, state, folder, read)

    @staticmethod
    def _validated(folder: Path, epochs: int) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return read_validation(folder, epochs) is not None
        return False

    def _test(
        self, entry: Entry, folder: Path, checkpoint: str, state: PhaseState
    ) -> dict[str, float]:
        command = self.test_command(entry, checkpoint)
        log = folder / TEST_LOG
        self._command(entry, command, log, state, folder, lambda line: None)
        try:
            content = json.loads((folder / 'test' / 'metrics.json').read_text(encoding='utf-8'))
        except (OSError, ValueError):
            raise EntryFailed(self._failure(entry, 'wrote no metrics', log)) from None
        return only_metrics(content)

    def _command(
        self,
        entry: Entry,
        command: Sequence[str],
        log: Path,
        state: PhaseState,
        folder: Path,
        on_line: Callable[[str], None],
    ) -> None:
        """Runs one command, counts its time, and ends it when the runner is told to stop."""
        start = saved = time.monotonic()
        before = state.seconds

        def tick() -> None:
            nonlocal saved
            if self._stop.is_set():
                raise Stopped
            now = time.monotonic()
            state.seconds = before + now - start
            if now - saved > _SAVE_EVERY_SECONDS:
                saved = now
                state.save(folder)

        try:
            status = self._run_command(
                command,
                log,
                cwd=self.root,
                on_line=on_line,
                on_tick=tick,
                keep_open=self._keep_open,
            )
        finally:
            state.seconds = before + time.monotonic() - start
            state.save(folder)
        if status != 0:
            raise EntryFailed(self._failure(entry, f'ended with exit status {status}', log))

    def _failure(self, entry: Entry, what: str, log: Path) -> str:
        tail = '\n'.join(f'    {line}' for line in last_lines(log, 8))
        return f'{entry.name} {what}. The last lines of {log}:\n{tail}'

    # What a result depends on

    def _config(self, entry: Entry) -> Any:
        if entry.config not in self._configs:
            path = self.root / entry.config
            if not path.is_file():
                raise UsageError(f'entry {entry.name}: there is no config {entry.config}')
            self._configs[entry.config] = Config.fromfile(
                path, import_custom_modules=False
            ).to_dict()
        return self._configs[entry.config]

    def _epochs(self, entry: Entry) -> int:
        options = self.options(entry)
        default = self._config(entry).get('train_cfg', {}).get('max_epochs', 1)
        return int(options.get('train_cfg.max_epochs', default))

    def _inputs(self, entry: Entry) -> str:
        needed = [self._results[name] for name in entry.needs]
        made = [(result['inputs'], result['finished_at']) for result in needed]
        content = (
            self._config(entry),
            {**self.grid.options, **entry.options, **self._extra_options},
            entry.seed,
            dict(self.grid.data),
            self.grid.parts,
            # as it was before an entry could need more than a teacher, so that old results stay valid
            (dict(entry.checkpoints), made) if entry.checkpoints else (made[0] if made else None),
        )
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _finished(self, entry: Entry) -> bool:
        result = self._results.get(entry.name)
        if result is None:
            return False
        if any(name not in self._results for name in entry.needs):
            return False
        there = (self.folder / result['checkpoint']).is_file()
        needed = any(entry.name in other.needs for other in self.grid.entries)
        return result['inputs'] == self._inputs(entry) and (there or not needed)

    def _load_results(self) -> None:
        self._results = {}
        if self.results_file.is_file():
            self._results = {r['entry']: r for r in read_results(self.results_file)}

    def _say(self, text: str, style: str | None = None) -> None:
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
