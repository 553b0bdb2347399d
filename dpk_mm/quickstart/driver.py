"""Runs the phases of the demonstration, each once, and says how it goes."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from rich.console import Console
from rich.markup import escape

from ..analysis.tables import Result, format_duration, print_table, write_results
from ..datasets import generate_shapes
from .plan import DISTILLED, REQUIRED_LEAD, ROLES, Plan
from .process import Progress, last_lines, parse_progress, run_logged
from .report import (
    describe_device,
    detector_parameters,
    draw_pictures,
    last_checkpoint,
    read_metrics,
)
from .state import PhaseState, exclusive

SMOKE_NOTE = 'A smoke run: everything works, the numbers mean nothing.'
_SAVE_EVERY_SECONDS = 5.0


class PhaseFailed(Exception):
    """A phase did not reach its end; the message is for the user."""


class Driver:
    """Does what is missing of a demonstration.

    Args:
        plan: What is to be done.
        console: Where it is told.
        run_command: Runs one command, see `process.run_logged`.
        parameters: Counts the parameters of a config's detector.
        draw: Draws the pictures, see `report.draw_pictures`.
    """

    def __init__(
        self,
        plan: Plan,
        console: Console,
        run_command: Callable[..., int] = run_logged,
        parameters: Callable[[Path], int] = detector_parameters,
        draw: Callable[[Plan, Mapping[str, str]], list[Path]] = draw_pictures,
    ) -> None:
        self.plan = plan
        self.console = console
        self._run_command = run_command
        self._parameters = parameters
        self._draw = draw
        self._number = 0
        self._count = 2 + 2 * len(ROLES)
        self._keep_open: tuple[int, ...] = ()

    def run(self, fresh: bool = False) -> bool:
        """Runs all phases that are not done.

        Args:
            fresh: Throw away what earlier runs with this detector left, the data excepted.

        Returns:
            Whether the teacher leads the lone student by enough for the demonstration to show
            something; always True in a smoke run.

        Raises:
            PhaseFailed: If a phase failed; the message says where to look.
            BlockingIOError: If another run holds the folder.
        """
        start = time.monotonic()
        self._check_configs()
        with exclusive(self.plan.work_dir) as lock:
            self._keep_open = (lock.fileno(),)
            if fresh:
                self._remove_results()
            self._say(f'Running on {describe_device()}; results go to {self.plan.work_dir}')
            self._make_data()
            checkpoints: dict[str, str] = {}
            results: list[Result] = []
            stamps: list[float] = []
            for role in ROLES:
                trained = self._train(role, checkpoints.get('teacher'), stamps[:1])
                tested = self._test(role, trained)
                checkpoints[role] = trained.result['checkpoint']
                stamps.append(trained.finished_at)
                results.append(
                    Result(
                        name=ROLES[role],
                        mAP=tested.result['mAP'],
                        AP50=tested.result['AP50'],
                        parameters=trained.result['parameters'],
                        train_seconds=trained.seconds,
                    )
                )
            self._report(checkpoints, results, stamps)
            self._say(f'This run took {format_duration(time.monotonic() - start)}.')
            return self._verdict(results)

    # The phases

    def _check_configs(self) -> None:
        missing = [
            role for role in ROLES if not (self.plan.root / self.plan.config(role)).is_file()
        ]
        if missing:
            raise PhaseFailed(
                f'{self.plan.config(missing[0])} does not exist in {self.plan.root}: the '
                'repository is incomplete, get it anew.'
            )

    def _make_data(self) -> None:
        self._number += 1
        try:
            made = generate_shapes(self.plan.data_root)
        except (ValueError, OSError) as error:
            raise PhaseFailed(f'The shapes set could not be made. {error}') from None
        self._say_phase(f'shapes set in {self.plan.data_root}', 'made' if made else 'there already')

    def _train(self, role: str, teacher: str | None, teacher_stamp: list[float]) -> PhaseState:
        folder = self.plan.train_dir(role)

        def command() -> list[str]:
            return self.plan.train_command(role, teacher, last_checkpoint(folder) is not None)

        def result() -> dict[str, Any]:
            checkpoint = last_checkpoint(folder)
            if checkpoint is None:
                raise FileNotFoundError(f'{folder} holds no checkpoint after the training.')
            return {
                'checkpoint': checkpoint,
                'parameters': self._parameters(self.plan.root / self.plan.config(role)),
            }

        config = Config.fromfile(self.plan.root / self.plan.config(role))
        options = {
            key: value for key, _, value in (o.partition('=') for o in self.plan.cfg_options)
        }
        epochs = options.get('train_cfg.max_epochs', config.get('train_cfg', {}).get('max_epochs'))
        inputs = _digest(
            self.plan.train_command(role, teacher, False)[1:],
            config.to_dict(),
            self._data_content(),
            teacher_stamp if role in DISTILLED else None,
        )
        return self._phase(
            f'{ROLES[role]}: training', folder, 'train.log', inputs, command, result, epochs
        )

    def _test(self, role: str, trained: PhaseState) -> PhaseState:
        command = self.plan.test_command(role, trained.result['checkpoint'])
        folder = self.plan.test_dir(role)
        return self._phase(
            f'{ROLES[role]}: evaluation',
            folder,
            'test.log',
            _digest(command[1:], trained.finished_at),
            lambda: command,
            lambda: read_metrics(folder),
        )

    def _phase(
        self,
        title: str,
        folder: Path,
        log_name: str,
        inputs: str,
        command: Callable[[], list[str]],
        result: Callable[[], dict[str, Any]],
        epochs: Any = None,
    ) -> PhaseState:
        """Runs one command, unless its result is there, and records it."""
        self._number += 1
        state = PhaseState.load(folder)
        if state is not None and state.inputs != inputs:
            self._say(f'{title}: its settings, data or teacher changed, so it starts over')
            shutil.rmtree(folder)
            state = None
        if state is not None and state.complete and self._still_there(state):
            self._say_phase(title, f'done earlier, in {format_duration(state.seconds)}')
            return state
        if state is None or state.complete:
            state = PhaseState(inputs)
        state.save(folder)

        log = folder / log_name
        line = command()
        self._say_phase(title, 'continued' if '--resume' in line else 'started', log)
        with _Clock(state, folder) as clock, _Live(self.console, title, epochs) as live:
            status = self._run_command(
                line,
                log,
                cwd=self.plan.root,
                on_line=live.read,
                on_tick=clock.tick,
                keep_open=self._keep_open,
            )
        if status != 0:
            raise PhaseFailed(_failure(title, f'ended with exit status {status}', log))
        try:
            state.result = result()
        except (OSError, ValueError) as error:
            raise PhaseFailed(_failure(title, f'left no result ({error})', log)) from error
        state.complete = True
        state.finished_at = time.time()
        state.save(folder)
        self._say(f'       done in {format_duration(state.seconds)}')
        return state

    def _report(
        self, checkpoints: Mapping[str, str], results: Sequence[Result], stamps: list[float]
    ) -> None:
        plan = self.plan
        self._number += 1
        folder = plan.work_dir / f'{plan.detector}_pictures'
        inputs = _digest(stamps)
        state = PhaseState.load(folder)
        if state is None or state.inputs != inputs or not self._still_there(state):
            self._say_phase('pictures', 'drawing')
            try:
                pictures = self._draw(plan, checkpoints)
            except Exception as error:
                raise PhaseFailed(
                    f'The pictures could not be drawn: {type(error).__name__}: {error}'
                ) from error
            state = PhaseState(inputs, complete=True, result={'files': [str(p) for p in pictures]})
            state.save(folder)
        else:
            self._say_phase('pictures', 'there already')

        title = f'Mini {plan.detector} on the shapes set'
        baseline = ROLES['none']
        about = {
            'detector': plan.detector,
            'seed': plan.seed,
            'smoke': plan.smoke,
            'device': describe_device(),
            'options': list(plan.options),
        }
        note = (
            f'Device: {about["device"]}. Training times are wall-clock, with start-up. One seed '
            f'({plan.seed}), 150 validation images: differences of about one point (0.01 mAP) are '
            'noise.'
        )
        if plan.smoke:
            note = SMOKE_NOTE
        write_results(results, plan.results_stem(), baseline, title, about, note)
        print_table(results, self.console, baseline, title)
        files = [plan.results_stem().with_suffix(s) for s in ('.md', '.json')]
        for file in [*files, *state.result['files']]:
            self._say(f'  {file}')

    def _verdict(self, results: Sequence[Result]) -> bool:
        score = {result.name: result.mAP for result in results}
        lead = score[ROLES['teacher']] - score[ROLES['none']]
        if self.plan.smoke:
            self._say(SMOKE_NOTE)
            return True
        if lead >= REQUIRED_LEAD:
            return True
        self.console.print(
            f'The teacher leads the lone student by only {100 * lead:.1f} mAP points, at least '
            f'{100 * REQUIRED_LEAD:.0f} are needed: this run says nothing about distillation.',
            style='bold red',
        )
        return False

    # Helpers

    def _remove_results(self) -> None:
        plan = self.plan
        folders = [plan.train_dir(role) for role in ROLES]
        for folder in [*folders, plan.work_dir / f'{plan.detector}_pictures']:
            shutil.rmtree(folder, ignore_errors=True)
        for name in ('mask_ratio', 'losses', 'detections'):
            plan.picture(name).unlink(missing_ok=True)
        for suffix in ('.md', '.json'):
            plan.results_stem().with_suffix(suffix).unlink(missing_ok=True)

    def _data_content(self) -> str:
        return (self.plan.data_root / 'shapes.json').read_text(encoding='utf-8')

    @staticmethod
    def _still_there(state: PhaseState) -> bool:
        files = [*state.result.get('files', ())]
        if 'checkpoint' in state.result:
            files.append(state.result['checkpoint'])
        return all(Path(file).is_file() for file in files)

    def _say(self, text: str) -> None:
        # Paths must stay whole for copying, so no wrapping.
        self.console.print(escape(text), soft_wrap=True, highlight=False)

    def _say_phase(self, title: str, what: str, log: Path | None = None) -> None:
        text = f'[{self._number}/{self._count}] {title}: {what}'
        self._say(f'{text} (log: {log})' if log else text)


class _Clock:
    """Adds the time spent inside to a state, and saves it now and then, in case of a kill."""

    def __init__(self, state: PhaseState, folder: Path) -> None:
        self._state, self._folder = state, folder
        self._before = state.seconds
        self._start = self._saved = time.monotonic()

    def __enter__(self) -> _Clock:
        return self

    def tick(self) -> None:
        now = time.monotonic()
        self._state.seconds = self._before + now - self._start
        if now - self._saved >= _SAVE_EVERY_SECONDS:
            self._state.save(self._folder)
            self._saved = now

    def __exit__(self, *_: object) -> None:
        self._state.seconds = self._before + time.monotonic() - self._start
        self._state.save(self._folder)


class _Live:
    """One line that follows the log: rewritten on a terminal, once per epoch elsewhere."""

    def __init__(self, console: Console, title: str, epochs: Any) -> None:
        self._console, self._title, self._epochs = console, title, epochs
        self._status = console.status(f'{title}: starting')
        self._told: int | None = None

    def __enter__(self) -> _Live:
        self._status.start()
        return self

    def read(self, line: str) -> None:
        progress = parse_progress(line)
        if progress is None:
            return
        text = f'{self._title}: {describe(progress, self._epochs)}'
        self._status.update(escape(text))
        new_epoch = progress.mode == 'train' and progress.epoch != self._told
        if new_epoch and not self._console.is_terminal:
            self._told = progress.epoch
            self._console.print(escape(f'       {text}'), soft_wrap=True, highlight=False)

    def __exit__(self, *_: object) -> None:
        self._status.stop()


def describe(progress: Progress, epochs: Any = None) -> str:
    """Says in words what a log line reported; `epochs` is how many there are, if known."""
    of_all = f'/{epochs}' if epochs else ''
    parts = [] if progress.epoch is None else [f'epoch {progress.epoch}{of_all}']
    unit = 'iteration' if progress.mode == 'train' else 'evaluation batch'
    parts.append(f'{unit} {progress.step}/{progress.steps}')
    if progress.loss is not None:
        parts.append(f'loss {progress.loss}')
    if progress.eta is not None:
        parts.append(f'{progress.eta} left')
    return ', '.join(parts)


def _digest(*content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _failure(title: str, what: str, log: Path) -> str:
    tail = '\n'.join(f'    {line}' for line in last_lines(log))
    return f'{title} {what}. The last lines of {log}:\n{tail}\nThe whole log: {log}'
