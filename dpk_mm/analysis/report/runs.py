"""What is known of a training from its work folder."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ...engine.runner.prepare import TEST_SUFFIX
from ...errors import UsageError
from ...models.pairing import CHOSEN_FILE
from ...modules import count_parameters
from ..loading import build_student
from ..training_curves import Scalars, load_scalars

#: Written by the hook at the end of a training.
RECORD_FILE = 'report.json'
PAGE_FILE = 'report.html'
# Of the records of a validation, what is no metric.
_NO_METRICS = ('step', 'time', 'data_time', 'epoch', 'iter')


@dataclass(frozen=True)
class Run:
    """A training.

    Attributes:
        name: How it is called on the page.
        work_dir: Its folder.
        scalars: What it logged.
        record: What the hook left, see :func:`~dpk_mm.analysis.report.collect.collect`; of a training without it
            (killed, or started by another tool), or with that of an earlier training in the folder, only the
            parameters of the model, where the config says them.
        chosen: Rows of what was chosen automatically: what, value, why.
        config_text: The config that it was started with; empty where the folder has none.
    """

    name: str
    work_dir: Path
    scalars: Scalars
    record: dict[str, Any] = field(default_factory=dict)
    chosen: list[tuple[str, str, str]] = field(default_factory=list)
    config_text: str = ''

    def metric_names(self) -> list[str]:
        """The metrics of its validations, in the order of the log."""
        # a list, as the values by class, is no curve
        names = dict.fromkeys(
            key
            for record in self.scalars.val
            for key, value in record.items()
            if isinstance(value, (int, float))
        )
        return [name for name in names if name not in _NO_METRICS]

    def metrics(self, name: str, iterations: bool = False) -> list[tuple[float, float]]:
        """(iteration or epoch, value) of a metric at each validation.

        Args:
            name: Of the metric.
            iterations: Whether epochs are turned into iterations: the last one that was logged by their end.
        """
        found = [(float(r['step']), float(r[name])) for r in self.scalars.val if name in r]
        if iterations and self.by_epoch:
            found = [(self._last_of(epoch), value) for epoch, value in found]
        return found

    def _last_of(self, epoch: float) -> float:
        train = self.scalars.train
        return float(max((r['iter'] for r in train if r.get('epoch', 0) <= epoch), default=0))

    @property
    def by_epoch(self) -> bool:
        """Whether validations are counted in epochs, and not in iterations."""
        if 'by_epoch' in self.record:
            return bool(self.record['by_epoch'])
        epochs = max((record.get('epoch', 0) for record in self.scalars.train), default=0)
        return all(record['step'] <= epochs for record in self.scalars.val)

    @property
    def distils(self) -> bool:
        """Whether it has a teacher."""
        roles = {model['role'] for model in self.record.get('models', ())}
        return bool(roles & {'teacher', 'student'})


def load_run(work_dir: str | os.PathLike[str], name: str | None = None) -> Run:
    """Reads the work folder of a training, finished or not.

    Args:
        work_dir: The folder.
        name: How the run is called; by default as the folder.

    Raises:
        UsageError: If the folder does not exist, has no log, or a file in it is damaged.
    """
    folder = Path(work_dir)
    if not folder.is_dir():
        raise UsageError(f'there is no work folder {folder}: give the --work-dir of a training.')
    try:
        scalars = load_scalars(folder)
    except FileNotFoundError as error:
        raise UsageError(str(error)) from None
    config = _config_file(folder, scalars.log)
    record = _read_json(folder / RECORD_FILE, dict)
    if record is None or record.get('log', scalars.log) != scalars.log:
        record = {'models': _models_of_config(config)}
    chosen = _read_json(folder / CHOSEN_FILE, list) or []
    return Run(
        name=name or folder.resolve().name,
        work_dir=folder,
        scalars=scalars,
        record=record,
        chosen=[_row(row, folder / CHOSEN_FILE) for row in chosen],
        config_text=config.read_text(encoding='utf-8') if config else '',
    )


def _config_file(folder: Path, log: str) -> Path | None:
    """The config that mmengine wrote beside the log of the training; else the newest of the folder."""
    own = folder / log / 'vis_data' / 'config.py'
    if own.is_file():
        return own
    # those of tests last: of a distillation they hold the student alone
    files = sorted(
        folder.glob('*.py'),
        key=lambda file: (not file.name.endswith(TEST_SUFFIX), file.stat().st_mtime),
    )
    files = files or sorted(folder.glob('*/vis_data/config.py'))
    return files[-1] if files else None


def _models_of_config(file: Path | None) -> list[dict[str, Any]]:
    if file is None:
        return []
    try:
        cfg = Config.fromfile(file)
        model = build_student(cfg)
    except Exception:  # an old or a foreign config: the page then has no size
        return []
    role = 'student' if 'architecture' in cfg.get('model', {}) else 'model'
    parameters = count_parameters(model, trainable_only=False)
    return [dict(role=role, type=type(model).__name__, parameters=parameters)]


def _read_json(file: Path, kind: type) -> Any:
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding='utf-8'))
    except ValueError:
        content = None
    if not isinstance(content, kind):
        raise UsageError(
            f'{file} is damaged: a JSON {kind.__name__} was expected; remove the file.'
        )
    return content


def _row(row: Any, file: Path) -> tuple[str, str, str]:
    if not isinstance(row, (list, tuple)) or len(row) != 3:
        raise UsageError(f'{file}: rows of [what, value, why] were expected, but one is {row!r}.')
    what, value, why = map(str, row)
    return what, value, why
