"""What the demonstration runs: which models, with which options, in which folders."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dpk_mm.analysis.report import PAGE_FILE
from tools.experiments.grid import Entry, Grid

DETECTORS = ('faster_rcnn', 'retinanet')
BASELINE = 'baseline'
#: Role -> name in table and pictures, in the order of training.
ROLES = {
    'teacher': 'teacher',
    BASELINE: 'student baseline',
    'fgd': 'FGD',
    'dpk': 'DPK + FGD',
}
DISTILLED = ('fgd', 'dpk')
#: Roles whose config is called otherwise.
_FILES = {BASELINE: 'none'}
#: The teacher has to lead the baseline by this much mAP, or distillation has nothing to transfer.
REQUIRED_LEAD = 0.10
METRIC = 'coco/bbox_mAP'

_SMOKE_OPTIONS = {
    'train_cfg.max_epochs': 1,
    'train_dataloader.dataset.indices': 32,
    'val_dataloader.dataset.indices': 16,
    'test_dataloader.dataset.indices': 16,
}


@dataclass(frozen=True)
class Plan:
    """One demonstration.

    Attributes:
        root: The repository; commands run there and its ``data/shapes`` is used.
        work_dir: Folder of all results.
        detector: One of `DETECTORS`.
        seed: Of every training.
        smoke: Run one epoch on 32 images, to see that everything works; the numbers mean nothing.
        options: More ``--cfg-options`` for training and test, each ``key=value``.
        python: Interpreter of the commands.
    """

    root: Path
    work_dir: Path
    detector: str = 'faster_rcnn'
    seed: int = 0
    smoke: bool = False
    options: tuple[str, ...] = ()
    python: str = field(default=sys.executable)

    @property
    def data_root(self) -> Path:
        """Folder of the shapes set, as the mini configs name it."""
        return self.root / 'data' / 'shapes'

    @property
    def extra_options(self) -> dict[str, str]:
        """The user's options by key."""
        return {key: value for key, _, value in (o.partition('=') for o in self.options)}

    def grid(self) -> Grid:
        """The trainings; their results depend on the data set that is there now."""
        entries = [
            Entry(
                name=self.entry_name(role),
                config=self.config(role).as_posix(),
                method=role,
                seed=self.seed,
                teacher=self.entry_name('teacher') if role in DISTILLED else None,
                label=name,
            )
            for role, name in ROLES.items()
        ]
        options: dict[str, Any] = _SMOKE_OPTIONS if self.smoke else {}
        return Grid(
            name=self.detector,
            entries=tuple(entries),
            metric=METRIC,
            title=f'Mini {self.detector} on the shapes set',
            data={'shapes': (self.data_root / 'shapes.json').read_text(encoding='utf-8')},
            options=options,
            parts=('test',),
        )

    def entry_name(self, role: str) -> str:
        """Name of a role's entry, which is also that of its folder."""
        return f'{self.detector}_{role}'

    def config(self, role: str) -> Path:
        """Config of a role, relative to the repository."""
        return Path('configs') / 'mini' / f'{self.detector}_{_FILES.get(role, role)}.py'

    def train_dir(self, role: str) -> Path:
        """Work dir of a training."""
        return self.work_dir / self.entry_name(role)

    def results_stem(self) -> Path:
        """Path of the table's files and of the grid's results, without suffix."""
        return self.work_dir / f'{self.detector}_results'

    def picture(self, name: str) -> Path:
        """Path of a picture."""
        return self.work_dir / f'{self.detector}_{name}.png'

    def page(self) -> Path:
        """Path of the report page."""
        return self.work_dir / PAGE_FILE
