"""What ``tools/distill.py`` shows: a line for each stage, and a bar while it runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from ...models.pairing import Row, table
from ..progress import describe, parse_progress

_METRICS = re.compile(r'Epoch\(val\).*\]\s{2,}(?!\s|eta:)(?P<metrics>.*?)\s{2,}data_time')


class Shown:
    """The console of a run.

    Args:
        console: Where to show it.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn('  {task.description}'),
            BarColumn(bar_width=24),
            TextColumn('{task.percentage:>3.0f} %'),
            TimeElapsedColumn(),
            TextColumn('{task.fields[info]}'),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )

    def say(self, text: str, style: str | None = None) -> None:
        """One line, or several."""
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def rows(self, title: str, rows: Sequence[Row]) -> None:
        """What was chosen, as a table."""
        if not rows:
            return
        if not self.console.is_terminal:  # a file has no width
            self.say(f'{title}\n{table(rows)}')
            return
        shown = Table(
            title=title, title_justify='left', title_style='bold', box=None, pad_edge=False
        )
        for column in ('what', 'chosen', 'why'):
            shown.add_column(column, overflow='fold', header_style='dim')
        for row in rows:
            shown.add_row(*(text.replace('[', r'\[') for text in row))
        self.console.print(shown)

    @contextmanager
    def bar(self, name: str, epochs: int | None = None) -> Iterator[Callable[[str], None]]:
        """A bar while a command runs.

        Args:
            name: Of the stage.
            epochs: Of the training, where known.

        Yields:
            What takes each line of the command's log.
        """
        task = self._bars.add_task(name, total=None, info='starting')
        self._bars.start()
        try:
            yield lambda line: self._line(task, line, epochs)
        finally:
            self._bars.remove_task(task)
            self._bars.stop()

    def _line(self, task: TaskID, line: str, epochs: int | None) -> None:
        metrics = _METRICS.search(line)
        if metrics and metrics['metrics']:
            self.say(f'    {short_metrics(metrics["metrics"])}', style='dim')
        progress = parse_progress(line)
        if progress is None:
            return
        info = describe(progress, epochs)
        if progress.mode == 'train' and progress.epoch is not None and epochs:
            done = (progress.epoch - 1) * progress.steps + progress.step
            self._bars.update(task, completed=done, total=epochs * progress.steps, info=info)
        elif progress.mode == 'test':
            self._bars.update(task, completed=progress.step, total=progress.steps, info=info)
        else:
            self._bars.update(task, info=info)


def short_metrics(text: str) -> str:
    """The first metrics of a validation line of a log."""
    found = re.findall(r'(\S+): (-?[\d.]+|nan)', text)
    return ', '.join(f'{name.rpartition("/")[2]} {float(value):.3f}' for name, value in found[:3])
