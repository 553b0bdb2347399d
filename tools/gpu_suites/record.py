"""What a part has found so far, on the disk after every row."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple


def write(path: str | Path, content: Any) -> None:
    """Writes a text, or anything else as JSON, whole or not at all.

    The package has a function for it, but what runs the parts must go on where the package cannot be imported.
    """
    text = content if isinstance(content, str) else json.dumps(content, indent=1) + '\n'
    temporary = Path(f'{path}.part')
    temporary.write_text(text, encoding='utf-8')
    os.replace(temporary, path)


class Options(NamedTuple):
    """What all parts are given.

    Attributes:
        device: 'cuda' or 'cpu'.
        tiny: Whether everything is as small as it can be, to test the report itself.
        seconds: How long the part may take; one that has a choice plans with it.
        data: Images of the classification runs, see ``images.py``; generated ones if empty.
        methods: Names of the classification runs; all of the grid if empty.
        config: Pair of networks of the classification runs.
        teacher: Checkpoint of their teacher; one is trained if empty.
        seeds: How many seeds a method has there.
        epochs: Of a student there.
        jobs: How many runs share the device there.
    """

    device: str = 'cuda'
    tiny: bool = False
    seconds: float = 60.0
    data: str = ''
    methods: tuple[str, ...] = ()
    config: str = ''
    teacher: str = ''
    seeds: int = 3
    epochs: int = 0
    jobs: int = 0


class Record:
    """Rows of a part, in a JSON file that is whole at every moment.

    Args:
        path: The file.
        part: Name of the part.
        options: What it was given.
        environment: What the figures depend on.
    """

    def __init__(
        self, path: str | Path, part: str, options: Options, environment: dict[str, Any]
    ) -> None:
        self.path = Path(path)
        self._began = time.monotonic()
        self._deadline = self._began + options.seconds
        self.content: dict[str, Any] = dict(
            part=part,
            state='running',
            environment=environment,
            options=options._asdict(),
            seconds=0.0,
            rows=[],
        )
        self.save()

    @property
    def left(self) -> float:
        """Seconds until the part has to end."""
        return self._deadline - time.monotonic()

    def add(self, **row: Any) -> dict[str, Any]:
        """Adds a row and saves; the row, which may be changed and saved again."""
        self.content['rows'].append(row)
        self.save()
        return row

    def save(self) -> None:
        """Writes the file."""
        self.content['seconds'] = round(time.monotonic() - self._began, 1)
        write(self.path, self.content)

    def finish(self) -> None:
        """Says that nothing was left out."""
        self.content['state'] = 'finished'
        self.save()

    @contextmanager
    def attempt(self, **row: Any) -> Iterator[dict[str, Any]]:
        """One piece of a part: what it raises is a row with ``error``, and the part goes on."""
        row = self.add(**row)
        try:
            yield row
        except Exception as error:
            traceback.print_exc()
            row['error'] = f'{type(error).__name__}: {str(error)[:500]}'
        self.save()
