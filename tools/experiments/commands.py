"""The commands of an entry, and what its result depends on."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from dpk_mm.errors import UsageError

from .grid import Entry, Grid, format_options
from .results import ResultsFile


class Commands:
    """Command lines of ``tools/train.py`` and ``tools/test.py`` for the entries of a grid.

    Args:
        grid: The entries and their common options.
        root: The repository; commands run there.
        folder: Each entry has a folder in here.
        results: Of the entries that are finished; others take checkpoints from them.
        data_options: ``--cfg-options`` that point to the data; they do not count as a change.
        extra_options: More ``--cfg-options`` of every command, which go over all others.
        python: Interpreter of the commands.
    """

    def __init__(
        self,
        grid: Grid,
        root: Path,
        folder: Path,
        results: ResultsFile,
        data_options: Mapping[str, Any] | None = None,
        extra_options: Mapping[str, Any] | None = None,
        python: str = sys.executable,
    ) -> None:
        self.grid = grid
        self.root = root
        self.folder = folder
        self._results = results
        self._data_options = dict(data_options or {})
        self._extra_options = dict(extra_options or {})
        self._python = python
        self._configs: dict[str, Any] = {}

    def train(self, entry: Entry, resume: bool) -> list[str]:
        """Trains an entry; the entries that it needs have to be finished."""
        command = [self._python, 'tools/train.py', entry.config]
        command += ['--work-dir', str(self.folder / entry.name)]
        if entry.teacher is not None:
            command += ['--teacher-ckpt', str(self._checkpoint(entry.teacher))]
        if resume:
            command.append('--resume')
        return [*command, '--cfg-options', *format_options(self._options(entry))]

    def test(self, entry: Entry, checkpoint: str) -> list[str]:
        """Evaluates an entry on the held-out part."""
        folder = self.folder / entry.name / 'test'
        command = [self._python, 'tools/test.py', entry.config, checkpoint]
        command += ['--work-dir', str(folder), '--out', str(folder / 'metrics.json')]
        return [*command, '--cfg-options', *format_options(self._options(entry))]

    def own_options(self, entry: Entry) -> dict[str, Any]:
        """Options of an entry without seed, data and checkpoints: what the results show of it."""
        return {**self.grid.options, **entry.options, **self._extra_options}

    def check(self, entry: Entry) -> None:
        """Looks for what would keep the commands of an entry from being run, before anything is trained.

        Raises:
            UsageError: If there is no config, it counts iterations, or a command line cannot hold an option.
        """
        self.epochs(entry)
        # the checkpoints of others are not there yet, but it is known in which folders they will be
        folders = {key: self.folder / name for key, name in entry.checkpoints.items()}
        format_options(self._options(entry, folders))

    def _options(
        self, entry: Entry, checkpoints: Mapping[str, Path] | None = None
    ) -> dict[str, Any]:
        if checkpoints is None:
            checkpoints = {k: self._checkpoint(name) for k, name in entry.checkpoints.items()}
        return {
            **self.grid.options,
            **entry.options,
            **{key: str(checkpoint) for key, checkpoint in checkpoints.items()},
            'randomness.seed': entry.seed,
            **self._data_options,
            **self._extra_options,
        }

    def _checkpoint(self, name: str) -> Path:
        return self.folder / self._results[name]['checkpoint']

    def config(self, entry: Entry) -> Any:
        """The content of an entry's config.

        Raises:
            UsageError: If there is no such file.
        """
        if entry.config not in self._configs:
            path = self.root / entry.config
            if not path.is_file():
                raise UsageError(
                    f'Entry {entry.name}: there is no config {entry.config} in {self.root}.'
                )
            self._configs[entry.config] = Config.fromfile(
                path, import_custom_modules=False
            ).to_dict()
        return self._configs[entry.config]

    def shown_config(self, entry: Entry) -> str:
        """Name of an entry's config, without the place of the folder that it was composed in."""
        path = Path(entry.config)
        return (
            path.relative_to(self.folder).as_posix() if self.folder in path.parents else str(path)
        )

    def epochs(self, entry: Entry) -> int:
        """Epochs of an entry's training.

        Raises:
            UsageError: If it counts iterations, of which nobody would know here whether they were all trained.
        """
        train = self.config(entry).get('train_cfg') or {}
        epochs = self.own_options(entry).get('train_cfg.max_epochs', train.get('max_epochs'))
        if epochs is None and (train.get('max_iters') or 'Iter' in str(train.get('type'))):
            raise UsageError(
                f'Entry {entry.name}: {entry.config} has no train_cfg.max_epochs, but experiments count epochs: write '
                'the length of the training so.'
            )
        return int(epochs or 1)

    def inputs(self, entry: Entry) -> str:
        """Digest of all that the result of an entry depends on."""
        needed = [self._results[name] for name in entry.needs]
        made = [(result['inputs'], result['finished_at']) for result in needed]
        content = (
            self.config(entry),
            self.own_options(entry),
            entry.seed,
            dict(self.grid.data),
            self.grid.parts,
            # as it was before an entry could need more than a teacher, so that old results stay valid
            (dict(entry.checkpoints), made) if entry.checkpoints else (made[0] if made else None),
        )
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()
