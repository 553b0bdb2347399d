"""Measured shares of the gradient, each kept in a file so that it is measured once."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from dpk_mm.cli.process import last_lines
from dpk_mm.errors import UsageError
from dpk_mm.fileio import write_json_atomically

from .commands import Commands
from .grid import Entry


class ShareFiles:
    """Runs ``shares.py`` for the methods of a comparison.

    Args:
        folder: A file for each method.
        root: The repository.
        batches: On which is measured.
        run_command: Runs one command, see ``process.run_logged``.
    """

    def __init__(
        self, folder: Path, root: Path, batches: int, run_command: Callable[..., int]
    ) -> None:
        self._folder = folder
        self._root = root
        self._batches = batches
        self._run_command = run_command

    def read(self, name: str) -> dict[str, Any] | None:
        """What was measured of a method, None if nothing was."""
        try:
            return dict(json.loads(self._path(name).read_text(encoding='utf-8')))
        except (FileNotFoundError, ValueError):
            return None

    def current(self, name: str, commands: Commands, entry: Entry) -> dict[str, Any] | None:
        """What was measured of a method with the config, options and teacher that its training has now, else None.

        Args:
            name: The method.
            commands: Of a grid with the results of what the entry needs.
            entry: The training with published weights, of the seed that it was measured with.
        """
        found = self.read(name)
        return found if found and found.get('inputs') == self._inputs(commands, entry) else None

    def measure(
        self, name: str, commands: Commands, entry: Entry, console: Console
    ) -> dict[str, float]:
        """The factors of a method; measured if they are not, or if config or teacher changed.

        Args:
            name: The method.
            commands: Of a grid whose needed entries are finished.
            entry: The training with published weights.
            console: Where it is shown.

        Raises:
            UsageError: If the measurement failed.
        """
        found = self.current(name, commands, entry)
        if found is None:
            console.print(f'{name}: measuring its gradient', highlight=False)
            self._run(name, commands, entry)
            about = dict(inputs=self._inputs(commands, entry), seed=entry.seed)
            found = {**(self.read(name) or {}), **about}
            write_json_atomically(self._path(name), found)
        return dict(found['factors'])

    def _inputs(self, commands: Commands, entry: Entry) -> str:
        return hashlib.sha256(f'{commands.inputs(entry)} {self._batches}'.encode()).hexdigest()

    def _run(self, name: str, commands: Commands, entry: Entry) -> None:
        # as it would be trained, in place of tools/train.py
        _, _, config, *options = commands.train(entry, resume=False)
        where = options.index('--work-dir')
        options[where + 1] = str(self._folder / name)
        command = [sys.executable, 'tools/experiments/shares.py', config]
        command += ['--out', str(self._path(name)), '--batches', str(self._batches), *options]
        log = self._folder / f'{name}.log'
        status = self._run_command(
            command, log, cwd=self._root, on_line=lambda line: None, on_tick=lambda: None
        )
        if status:
            tail = '\n'.join(f'    {line}' for line in last_lines(log))
            raise UsageError(
                f'The share of {name} could not be measured. The last lines of {log}:\n{tail}'
            )

    def _path(self, name: str) -> Path:
        return self._folder / f'{name}.json'
