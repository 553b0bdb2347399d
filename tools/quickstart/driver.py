"""Makes the data, runs the grid of the demonstration, and shows what came out."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from dpk_mm.analysis.tables import Result, format_duration, print_table, write_results
from dpk_mm.cli.lock import exclusive
from dpk_mm.cli.process import run_logged
from dpk_mm.fileio import write_json_atomically
from tools.experiments.results import ResultsFile
from tools.experiments.runner import GridRunner
from tools.shapes import generate_shapes

from .console import PhaseConsole
from .plan import BASELINE, METRIC, REQUIRED_LEAD, ROLES, Plan
from .report import describe_device, detector_parameters, draw_pictures, write_report

SMOKE_NOTE = 'A smoke run: everything works, the numbers mean nothing.'


class PhaseFailed(Exception):
    """A phase did not reach its end; the message is for the user."""


class Driver:
    """Does what is missing of a demonstration.

    Args:
        plan: What is to be done.
        console: Where it is shown.
        run_command: Runs one command, see ``process.run_logged``.
        parameters: Counts the parameters of a config's detector.
        draw: Draws the pictures, see ``report.draw_pictures``.
        write_report: Writes the page, see ``report.write_report``.
    """

    def __init__(
        self,
        plan: Plan,
        console: Console,
        run_command: Callable[..., int] = run_logged,
        parameters: Callable[[Path], int] = detector_parameters,
        draw: Callable[[Plan, Mapping[str, str]], list[Path]] = draw_pictures,
        write_report: Callable[[Plan], Path] = write_report,
    ) -> None:
        self.plan = plan
        self.console = console
        self._shown = PhaseConsole(console, [plan.entry_name(role) for role in ROLES])
        self._run_command = run_command
        self._parameters = parameters
        self._draw = draw
        self._write_report = write_report

    def run(self, fresh: bool = False) -> bool:
        """Runs all phases that are not done.

        Args:
            fresh: Throw away what earlier runs with this detector left, the data excepted.

        Returns:
            Whether the teacher leads the baseline by enough for the demonstration to show
            something; always True in a smoke run.

        Raises:
            PhaseFailed: If a phase failed; the message says where to look.
            UsageError: If another run holds the folder.
        """
        start = time.monotonic()
        self._check_configs()
        with exclusive(self.plan.work_dir) as lock:
            if fresh:
                self._remove_results()
            self._shown.say(f'Running on {describe_device()}; results go to {self.plan.work_dir}')
            self._make_data()
            runner = GridRunner(
                self.plan.grid(),
                self.plan.root,
                self.plan.work_dir,
                extra_options=self.plan.extra_options,
                reporter=self._shown,
                run_command=self._run_command,
                python=self.plan.python,
                results_name=self.plan.results_stem().with_suffix('.jsonl').name,
                stop_at_failure=True,
                keep_checkpoints=True,
            )
            runner.run(lock=lock)
            if self._shown.failure is not None:
                raise PhaseFailed(self._shown.failure)
            results = self._report(runner.results)
            self._shown.say(f'This run took {format_duration(time.monotonic() - start)}.')
            verdict = self._verdict(results)
            self._page()
            return verdict

    def _check_configs(self) -> None:
        for role in ROLES:
            if not (self.plan.root / self.plan.config(role)).is_file():
                raise PhaseFailed(
                    f'{self.plan.config(role)} does not exist in {self.plan.root}: the '
                    'repository is incomplete, get it anew.'
                )

    def _make_data(self) -> None:
        try:
            made = generate_shapes(self.plan.data_root)
        except (ValueError, OSError) as error:
            raise PhaseFailed(f'The shapes set could not be made. {error}') from None
        how = 'made' if made else 'there already'
        self._shown.data(f'shapes set in {self.plan.data_root}: {how}')

    def _report(self, lines: ResultsFile) -> list[Result]:
        """Draws, and shows and writes the table."""
        plan = self.plan
        by_role = {role: lines[plan.entry_name(role)] for role in ROLES}
        pictures = self._pictures(by_role)
        results = [self._result(role, line) for role, line in by_role.items()]
        title = f'Mini {plan.detector} on the shapes set'
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
        write_results(results, plan.results_stem(), ROLES[BASELINE], title, about, note)
        print_table(results, self.console, ROLES[BASELINE], title)
        files = [plan.results_stem().with_suffix(s) for s in ('.md', '.json')]
        for file in [*files, *pictures]:
            self._shown.say(f'  {file}')
        return results

    def _result(self, role: str, line: Mapping[str, Any]) -> Result:
        return Result(
            name=ROLES[role],
            mAP=line['scores']['test'],
            # mmdet gives no box metrics at all for a detector without a single detection
            AP50=line['metrics']['test'].get(f'{METRIC}_50', 0.0),
            parameters=self._parameters(self.plan.root / self.plan.config(role)),
            train_seconds=line['train_seconds'],
        )

    def _pictures(self, lines: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """The pictures of these results, drawn unless they are there."""
        stamps = [line['finished_at'] for line in lines.values()]
        try:
            known = json.loads(self._pictures_file.read_text(encoding='utf-8'))
        except (FileNotFoundError, ValueError):
            known = {}
        if known.get('finished_at') == stamps and all(Path(f).is_file() for f in known['files']):
            self._shown.pictures('pictures: there already')
            return known['files']
        self._shown.pictures('pictures: drawing')
        checkpoints = {
            role: str(self.plan.work_dir / line['checkpoint']) for role, line in lines.items()
        }
        try:
            files = [str(path) for path in self._draw(self.plan, checkpoints)]
        except Exception as error:
            raise PhaseFailed(
                f'The pictures could not be drawn: {type(error).__name__}: {error}'
            ) from error
        write_json_atomically(self._pictures_file, {'finished_at': stamps, 'files': files})
        return files

    def _page(self) -> None:
        """The page with everything on it; the results are there without it."""
        try:
            page = self._write_report(self.plan)
        except Exception as error:
            self._shown.say(
                f'The report page could not be written: {type(error).__name__}: {error}'
            )
        else:
            self._shown.say(
                f'Open {page} in a browser: metrics, curves and detections on one page.'
            )

    def _verdict(self, results: Sequence[Result]) -> bool:
        score = {result.name: result.mAP or 0.0 for result in results}
        lead = score[ROLES['teacher']] - score[ROLES[BASELINE]]
        if self.plan.smoke:
            self._shown.say(SMOKE_NOTE)
            return True
        if lead >= REQUIRED_LEAD:
            return True
        self.console.print(
            f'The teacher leads the student baseline by only {100 * lead:.1f} mAP points, at least '
            f'{100 * REQUIRED_LEAD:.0f} are needed: this run says nothing about distillation.',
            style='bold red',
        )
        return False

    @property
    def _pictures_file(self) -> Path:
        return self.plan.work_dir / f'{self.plan.detector}_pictures.json'

    def _remove_results(self) -> None:
        plan = self.plan
        for role in ROLES:
            shutil.rmtree(plan.train_dir(role), ignore_errors=True)
        for name in ('mask_ratio', 'losses', 'detections'):
            plan.picture(name).unlink(missing_ok=True)
        plan.page().unlink(missing_ok=True)
        self._pictures_file.unlink(missing_ok=True)
        for suffix in ('.md', '.json', '.jsonl'):
            plan.results_stem().with_suffix(suffix).unlink(missing_ok=True)
