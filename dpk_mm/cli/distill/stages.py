"""Stages that are done once: what an earlier run of the command finished is not done again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ...fileio import write_json_atomically, write_text_atomically

STATE_FILE = 'stages.json'


def digest(*parts: object) -> str:
    """A short name for the content of all parts."""
    return hashlib.sha256('\0'.join(map(str, parts)).encode()).hexdigest()[:16]


class Stages:
    """What was done in a work folder.

    It is written after every stage, whole or not at all, so that a run that is stopped at any time can go on.

    Args:
        folder: The work folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / STATE_FILE
        try:
            content = json.loads(self._file.read_text(encoding='utf-8'))
        except (FileNotFoundError, ValueError):
            content = {}
        content = content if isinstance(content, dict) else {}
        self._stages: dict[str, dict[str, Any]] = dict(content.get('stages') or {})
        self._files: dict[str, dict[str, str]] = dict(content.get('files') or {})

    def result(self, name: str, inputs: str) -> dict[str, Any] | None:
        """The result of a stage that was finished with the same inputs; None if it has to be done."""
        stage = self._stages.get(name) or {}
        return stage.get('result') if stage.get('inputs') == inputs else None

    def finished_at(self, name: str) -> float:
        """When a stage was finished, in seconds since the epoch; 0 if it was not."""
        return float((self._stages.get(name) or {}).get('finished_at') or 0)

    def started(self, name: str) -> bool:
        """Whether a stage was begun here, by whatever settings."""
        return name in self._stages

    def forget(self) -> None:
        """Forgets all stages; which configs were written here, and what they said, is still known."""
        self._stages.clear()
        self._save()

    def run(
        self,
        name: str,
        inputs: str,
        action: Callable[[], Mapping[str, Any]],
        folder: Path | None = None,
    ) -> dict[str, Any]:
        """Does a stage unless it is done.

        Args:
            name: Of the stage.
            inputs: Digest of all that its result depends on.
            action: Does it, and returns what is to be remembered.
            folder: Where it keeps checkpoints to go on from, if it does.

        Returns:
            What ``action`` returned, now or earlier, and ``seconds``, which it took, stopped attempts included.

        Raises:
            UsageError: If ``folder`` holds checkpoints of other inputs.
        """
        done = self.result(name, inputs)
        if done is not None:
            return done
        stage = self._stages.get(name) or {}
        same = stage.get('inputs') == inputs
        if folder is not None and not same and any(folder.glob('*.pth')):
            if not self.started(name):  # --fresh would not remove it, either
                raise UsageError(
                    f'{folder} holds a training that this command knows nothing of: name another folder with '
                    '--work-dir, or remove it.'
                )
            raise UsageError(
                f'{folder} holds a training with other settings or data than those of this command: name another '
                'folder with --work-dir, or start over with --fresh.'
            )
        spent = float(stage.get('seconds') or 0) if same else 0.0
        self._stages[name] = dict(inputs=inputs, seconds=spent)
        self._save()
        start = time.monotonic()
        try:
            result = dict(action())
        except BaseException:
            self._stages[name]['seconds'] = spent + time.monotonic() - start
            self._save()
            raise
        result['seconds'] = round(spent + time.monotonic() - start, 1)
        self._stages[name] = dict(inputs=inputs, result=result, finished_at=time.time())
        self._save()
        return result

    def place(self, file: Path, text: str, base: str) -> bool:
        """Writes a config, unless the user has edited it.

        Args:
            file: The config.
            text: What it says.
            base: What it says without what was measured; by this it is known whether the options have changed.

        Returns:
            False if the file was edited by the user since and is kept.

        Raises:
            UsageError: If it is a file of someone else, or was edited while the options changed as well.
        """
        known = self._files.get(str(file))
        if file.exists():
            present = digest(file.read_text(encoding='utf-8', errors='replace'))
            if known is None and present != digest(text):
                raise UsageError(
                    f'{file} exists and was not written by this command: name another file with --out.'
                )
            if known is not None and present != known['written'] and present != digest(text):
                if known['base'] == digest(base):
                    return False
                raise UsageError(
                    f'{file} was edited since it was written, and the options of this command say something else now: '
                    f'train it with tools/train.py {file}, or name another file with --out.'
                )
        write_text_atomically(file, text)
        self._files[str(file)] = dict(written=digest(text), base=digest(base))
        self._save()
        return True

    def _save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json_atomically(self._file, dict(stages=self._stages, files=self._files))
