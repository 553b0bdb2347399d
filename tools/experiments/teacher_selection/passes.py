"""One look at each teacher, kept in a file so that a second run does only what is missing."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmengine.config import Config

from dpk_mm.analysis.teacher_pass import TeacherPass, measure_teacher, why_it_does_not_fit
from dpk_mm.errors import UsageError
from dpk_mm.fileio import write_json_atomically

PASSES_FILE = 'passes.json'


def digest(cfg: Config, *files: str | os.PathLike[str] | None) -> str:
    """Of a config and of files, by size and time of change; a URL counts by its name."""
    stamps = []
    for file in files:
        try:
            stat = os.stat(file) if file else None
        except OSError:
            stat = None
        stamps.append(str(file) if stat is None else f'{file} {stat.st_size} {stat.st_mtime_ns}')
    text = json.dumps([cfg.to_dict(), stamps], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class Passes:
    """The looks at the teachers, by name.

    Args:
        folder: Holds the file.
        images: How many images each teacher is measured on.
        device: Torch device.

    Raises:
        UsageError: If the file cannot be read.
    """

    def __init__(self, folder: Path, images: int, device: str = 'cpu') -> None:
        self._path = folder / PASSES_FILE
        self._images = images
        self._device = device
        self._known: dict[str, Any] = {}
        if self._path.is_file():
            try:
                self._known = dict(json.loads(self._path.read_text(encoding='utf-8')))
            except (ValueError, TypeError):
                raise UsageError(
                    f'{self._path} is not what select_teacher.py wrote, but damaged or of something else: remove it, '
                    'and the teachers are looked at again; their trainings are kept.'
                ) from None

    def misfit(self, name: str, cfg: Config) -> str | None:
        """Why a pair cannot be trained; None if it can."""
        key, what = digest(cfg, cfg.model.get('teacher_ckpt')), f'{name} fits'
        if self._known.get(what, {}).get('found') is not None:
            del self._known[what]  # it may have been the data, which is there now
        return self._once(what, key, lambda: why_it_does_not_fit(cfg))

    def measure(self, name: str, cfg: Config, student_ckpt: str | None) -> TeacherPass:
        """The measurements of a teacher, with CKA to the student of a checkpoint."""
        # 'shuffled': looks of before took the first images of the set, and are not mixed with these
        key = digest(cfg, cfg.model.get('teacher_ckpt'), student_ckpt, f'{self._images} shuffled')
        found: Mapping[str, Any] = self._once(
            name,
            key,
            lambda: asdict(measure_teacher(cfg, student_ckpt, self._images, device=self._device)),
        )
        return TeacherPass(**found)

    @property
    def seconds(self) -> float:
        """Time of all looks that are in the file."""
        return sum(item['seconds'] for item in self._known.values())

    def _once(self, name: str, key: str, look: Callable[[], Any]) -> Any:
        known = self._known.get(name)
        if known is None or known['key'] != key:
            start = time.monotonic()
            known = {'key': key, 'found': look()}
            known['seconds'] = round(time.monotonic() - start, 2)
            self._known[name] = known
            write_json_atomically(self._path, self._known)
        return known['found']
