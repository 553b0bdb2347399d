"""The tools that the stages run, each in a process and with a log of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import UsageError
from ..process import COMMAND_LINE, last_lines, run_logged
from .shown import Shown

#: What readable errors begin with: the name of the program, as the tools give it.
_PROGRAMS = (
    *('train.py: ', 'test.py: ', 'export_student.py: ', 'report_page.py: '),
    *('dry run: ', 'gradient measurement: '),
)


def log_file(logs: Path, name: str) -> Path:
    """The log of what is called ``name``."""
    return logs / f'{name.replace(" ", "_")}.log'


class Commands:
    """Runs tools.

    Args:
        tools: Folder of ``train.py`` and ``test.py``.
        logs: Folder of the logs.
        shown: The console.
        gpus: Processes of a training.
        run: Runs one command, see :func:`dpk_mm.cli.process.run_logged`.
    """

    def __init__(
        self,
        tools: Path,
        logs: Path,
        shown: Shown,
        gpus: int = 1,
        run: Callable[..., int] = run_logged,
    ) -> None:
        self._tools = tools
        self._logs = logs
        self._shown = shown
        self._gpus = gpus
        self._run = run

    def train(
        self, name: str, config: Path, folder: Path, epochs: int | None, *options: str
    ) -> None:
        """Trains a config, from its newest checkpoint if there is one."""
        arguments = [str(config), '--work-dir', str(folder), *options]
        if (folder / 'last_checkpoint').is_file():
            arguments.append('--resume')
        if self._gpus > 1:
            script = str(self._tools / 'dist_train.sh')
            command = ['bash', script, arguments[0], str(self._gpus), *arguments[1:]]
        else:
            command = [sys.executable, str(self._tools / 'train.py'), *arguments]
        self._start(name, command, epochs)

    def tool(self, name: str, script: str, *arguments: str) -> None:
        """Runs a script of the tools folder, such as ``'test.py'``."""
        self._start(name, [sys.executable, str(self._tools / script), *arguments])

    def module(self, name: str, module: str, *arguments: str) -> None:
        """Runs a module of this package."""
        self._start(name, [sys.executable, '-m', f'{__package__}.{module}', *arguments], epochs=1)

    def has(self, script: str) -> bool:
        """Whether there is such a tool."""
        return (self._tools / script).is_file()

    def _start(self, name: str, command: Sequence[str], epochs: int | None = None) -> None:
        log = log_file(self._logs, name)
        with self._shown.bar(name, epochs) as on_line:
            status = self._run(command, log, Path.cwd(), on_line, lambda: None)
        if status:
            raise UsageError(self._reason(name, status, log))

    @staticmethod
    def _reason(name: str, status: int, log: Path) -> str:
        lines = _of_last_command(last_lines(log, 60))
        for line in reversed(lines):
            for program in _PROGRAMS:
                if line.startswith(program):
                    return f'{name}: {line.removeprefix(program)} (The log is {log}.)'
        how = f'was ended by signal {-status}' if status < 0 else f'ended with status {status}'
        tail = '\n'.join(f'    {line}' for line in lines[-15:])
        return f'{name} {how}; the last lines of {log}:\n{tail}'


def _of_last_command(lines: list[str]) -> list[str]:
    """The lines of the last command: a log holds what earlier runs of it said, too."""
    begins = [i for i, line in enumerate(lines) if line.startswith(COMMAND_LINE)]
    return lines[begins[-1] :] if begins else lines
