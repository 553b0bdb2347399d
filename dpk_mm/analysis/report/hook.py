"""Writes the report page at the end of a training."""

from __future__ import annotations

import os
import time
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...fileio import write_json_atomically
from .collect import collect
from .page import write_page
from .runs import PAGE_FILE, RECORD_FILE, load_run


class ReportHook(Hook):
    """Writes ``report.html`` to the work folder after training, and ``report.json`` from which it is made.

    It runs on the main process alone. Whatever goes wrong with the page is one warning and never ends a training.

    It is not named in configs: ``tools/train.py`` puts it into every run; a script of your own calls
    ``runner.register_hook(ReportHook())``.

    Args:
        baseline: Work folder of the student's training without a teacher, shown beside it.
    """

    priority = 'LOWEST'

    def __init__(self, baseline: str | os.PathLike[str] | None = None) -> None:
        self.baseline = baseline
        self._begin = time.monotonic()
        self._first = 0

    def before_train(self, runner: Runner) -> None:
        """Takes the time."""
        self._begin, self._first = time.monotonic(), runner.iter

    def after_train(self, runner: Runner) -> None:
        """Collects, and writes both files."""
        if not is_main_process():
            return
        folder = Path(runner.work_dir)
        try:
            record = collect(runner, time.monotonic() - self._begin, self._first)
            write_json_atomically(folder / RECORD_FILE, record)
            runs = [load_run(folder)]
            if self.baseline is not None:
                runs.insert(0, load_run(self.baseline, 'baseline'))
            write_page(runs, folder / PAGE_FILE, baseline='baseline' if self.baseline else None)
            runner.logger.info(f'The report of this training is in {folder / PAGE_FILE}.')
        except Exception as error:
            runner.logger.warning(
                f'{folder / PAGE_FILE} could not be written ({type(error).__name__}: {error}); the training itself is '
                f'complete. Try: python tools/analysis/report_page.py {folder} --out {folder / PAGE_FILE}'
            )
