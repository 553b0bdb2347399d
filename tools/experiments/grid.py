"""What a grid of experiments consists of, and how it is read from its file."""

from __future__ import annotations

import json
import os
import runpy
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mmengine.config import DictAction

from dpk_mm.errors import UsageError

#: Parts of the data that an entry may be evaluated on, by the config's dataloaders.
PARTS = ('val', 'test')
#: Reads options as the trainings do.
_READER = ArgumentParser()
_READER.add_argument('--cfg-options', nargs='+', action=DictAction)


@dataclass(frozen=True)
class Entry:
    """One training.

    Attributes:
        name: Unique in the grid; also the name of its folder.
        config: Path of the config, relative to the repository.
        method: Name of the method in the tables, such as ``'dpk'``; the teachers' is ``'teacher'``.
        seed: ``randomness.seed`` of the training; results are paired by it.
        teacher: Name of the entry whose checkpoint is the teacher; None if there is none.
        label: How a teacher is called in the tables, such as ``'width 32'``.
        setting: What sets this entry apart from others of its method, for the tables.
        options: ``--cfg-options`` by dotted key.
        checkpoints: More of them, whose values are the checkpoints of other entries, by these entries' names.
    """

    name: str
    config: str
    method: str
    seed: int = 0
    teacher: str | None = None
    label: str = ''
    setting: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    checkpoints: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs(self) -> tuple[str, ...]:
        """The entries that have to be finished before: the teacher, and those of ``checkpoints``."""
        teacher = () if self.teacher is None else (self.teacher,)
        return (*teacher, *self.checkpoints.values())


@dataclass(frozen=True)
class Grid:
    """A set of trainings whose results are compared with each other.

    Attributes:
        name: Of its folder and in the results.
        entries: The trainings, in the order in which they are started.
        metric: Name of the metric that counts, as mmengine logs it.
        title: Heading of the report.
        data: Arguments of ``data.prepare``, with ``kind``; empty if the configs' paths hold.
        options: ``--cfg-options`` of all entries.
        references: Methods that the others are compared with.
        parts: What is evaluated. Settings are chosen on ``'val'``; a grid that only chooses leaves
            ``'test'`` out, so that nobody sees the held-out part before the choice is made.
    """

    name: str
    entries: tuple[Entry, ...]
    metric: str
    title: str = ''
    data: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    references: tuple[str, ...] = ('baseline',)
    parts: tuple[str, ...] = PARTS

    def __getitem__(self, name: str) -> Entry:
        return next(entry for entry in self.entries if entry.name == name)

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Looks for options of all entries that would undo what sets one apart from the others.

        ``train_cfg.max_epochs`` may be given, to try a grid out.

        Args:
            options: ``--cfg-options`` of the call.

        Raises:
            UsageError: If there is one.
        """
        own = {'randomness.seed': 'every entry'}
        for entry in self.entries:
            taught = () if entry.teacher is None else ('model.teacher_ckpt',)
            own |= dict.fromkeys((*entry.options, *entry.checkpoints, *taught), entry.name)
        own.pop('train_cfg.max_epochs', None)
        for key in options:
            if key in own:
                raise UsageError(
                    f'--cfg-options {key}: the grid sets it itself for {own[key]}; leave the option out, or write a '
                    'grid of your own.'
                )

    def select(self, pattern: str | None) -> list[Entry]:
        """Entries whose names match a shell pattern, and those that they need, in order.

        Raises:
            UsageError: If none matches.
        """
        if pattern is None:
            return list(self.entries)
        selected = {entry.name for entry in self.entries if fnmatchcase(entry.name, pattern)}
        if not selected:
            raise UsageError(
                f"no entry of {self.name} matches '{pattern}'; there are "
                f'{", ".join(entry.name for entry in self.entries)}.'
            )
        pending = list(selected)
        while pending:
            needed = set(self[pending.pop()].needs) - selected
            selected |= needed
            pending += needed
        return [entry for entry in self.entries if entry.name in selected]


def load_grid(path: str | os.PathLike[str]) -> Grid:
    """Reads a grid from a Python or a JSON file.

    A Python file sets the attributes of ``Grid`` as variables of its module, with ``entries`` as a
    list of dicts (the attributes of ``Entry``); a JSON file holds the same as one object. The grid's
    ``name`` is that of the file.

    Raises:
        UsageError: If the file is not there, lacks something, or contradicts itself.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(
            f'There is no grid {path}: give the path of one, see tools/experiments/grids/.'
        )
    if path.suffix == '.json':
        content = json.loads(path.read_text(encoding='utf-8'))
    elif path.suffix == '.py':
        content = runpy.run_path(str(path))
    else:
        raise UsageError(f'{path}: a grid is a .py or a .json file.')
    known = {f.name for f in fields(Grid)} - {'name'}
    values = {key: value for key, value in content.items() if key in known}
    for key in ('entries', 'metric'):
        if key not in values:
            raise UsageError(f'{path} does not set {key}.')
    if 'baselines' in content:
        raise UsageError(
            f'{path} sets baselines, which is called references now: rename it; the student trained '
            "without a teacher is the method 'baseline'."
        )
    for key in ('references', 'parts'):
        if key in values:
            values[key] = tuple(values[key])
    values['entries'] = tuple(_entry(path, item) for item in values['entries'])
    grid = Grid(name=path.stem, **values)
    _check(path, grid)
    return grid


def _entry(path: Path, item: Mapping[str, Any]) -> Entry:
    known = [f.name for f in fields(Entry)]
    unknown = sorted(set(item) - set(known))
    missing = [key for key in ('name', 'config', 'method') if key not in item]
    if unknown or missing:
        problem = f'lacks {missing[0]}' if missing else f'has {unknown[0]}'
        raise UsageError(
            f'{path}: entry {item.get("name", "without a name")} {problem}; its keys are '
            f'{", ".join(known)}.'
        )
    return Entry(**item)


def _check(path: Path, grid: Grid) -> None:
    names = [entry.name for entry in grid.entries]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f'{path}: two entries are called {name}.')
        if Path(name).name != name:
            raise UsageError(f"{path}: an entry's name is that of a folder, but one is '{name}'.")
    for part in grid.parts:
        if part not in PARTS:
            raise UsageError(f"{path}: parts has '{part}'; known are {', '.join(PARTS)}.")
    seen: set[str] = set()
    for entry in grid.entries:
        for name in entry.needs:
            if name not in seen:
                what = 'the teacher' if name == entry.teacher else 'a checkpoint'
                raise UsageError(
                    f"{path}: {what} of entry {entry.name} is '{name}', which is not an entry before it."
                )
        seen.add(entry.name)


def format_options(options: Mapping[str, Any]) -> list[str]:
    """Writes options as ``--cfg-options`` takes them: ``key=value``, lists as ``[a,b]``.

    Raises:
        UsageError: If a value is a dict, or a text that would be read as another one or as a list: a command line
            cannot hold these. Texts of numbers, booleans and None are meant so.
    """
    return [f'{key}={_format(key, value)}' for key, value in options.items()]


def _format(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        raise UsageError(f'option {key} is a dict: give its items as {key}.<item>, or a config.')
    if isinstance(value, Iterable) and not isinstance(value, str):
        return f'[{",".join(_format(key, item) for item in value)}]'
    text = str(value)
    if isinstance(value, (str, os.PathLike)) and (read := _read(text)) != text:
        advice = (
            'put the data, or the work folder, into a path without spaces, commas, quotes and brackets'
            if os.sep in text or text[:1] not in '[('
            else 'give a list, not a text'
        )
        raise UsageError(f'option {key} is {text!r}, but a training would read {read!r}: {advice}.')
    return text


def _read(text: str) -> Any:
    """What a training makes of a text; numbers and the like are meant so, and come back as they are written."""
    try:
        read = _READER.parse_args(['--cfg-options', f'key={text}']).cfg_options['key']
    except AssertionError:  # brackets without their partners
        return None
    return read if isinstance(read, (str, list, tuple)) else text
