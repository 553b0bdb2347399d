"""What the demonstration runs: which models, with which commands, in which folders."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

DETECTORS = ('faster_rcnn', 'retinanet')
#: Role -> name in table and pictures, in the order of training.
ROLES = {
    'teacher': 'teacher',
    'none': 'student alone',
    'fgd': 'FGD',
    'dpk': 'DPK + FGD',
}
DISTILLED = ('fgd', 'dpk')
#: The teacher has to lead the lone student by this much mAP, or there is nothing to hand down.
REQUIRED_LEAD = 0.10

_SMOKE_OPTIONS = (
    'train_cfg.max_epochs=1',
    'train_dataloader.dataset.indices=32',
    'val_dataloader.dataset.indices=16',
    'test_dataloader.dataset.indices=16',
)


@dataclass(frozen=True)
class Plan:
    """One demonstration.

    Attributes:
        root: The repository; commands run there and its `data/shapes` is used.
        work_dir: Folder of all results.
        detector: One of `DETECTORS`.
        seed: Of every training.
        smoke: Run one epoch on 32 images, to see that everything works; the numbers mean nothing.
        options: More `--cfg-options` for training and test, each `key=value`.
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
    def cfg_options(self) -> list[str]:
        """Options of every command, `key=value`."""
        return [
            f'randomness.seed={self.seed}',
            *(_SMOKE_OPTIONS if self.smoke else ()),
            *self.options,
        ]

    def config(self, role: str) -> Path:
        """Config of a role, relative to the repository."""
        return Path('configs') / 'mini' / f'{self.detector}_{role}.py'

    def train_dir(self, role: str) -> Path:
        """Work dir of a training."""
        return self.work_dir / f'{self.detector}_{role}'

    def test_dir(self, role: str) -> Path:
        """Work dir of a test; inside that of the training, so that it goes with it."""
        return self.train_dir(role) / 'test'

    def results_stem(self) -> Path:
        """Path of the table's files, without suffix."""
        return self.work_dir / f'{self.detector}_results'

    def picture(self, name: str) -> Path:
        """Path of a picture."""
        return self.work_dir / f'{self.detector}_{name}.png'

    def train_command(self, role: str, teacher_checkpoint: str | None, resume: bool) -> list[str]:
        """Command that trains a role; the teacher's checkpoint is for the distilled ones."""
        command = [self.python, 'tools/train.py', str(self.config(role))]
        command += ['--work-dir', str(self.train_dir(role))]
        if role in DISTILLED:
            if teacher_checkpoint is None:
                raise ValueError(f"'{role}' learns from a teacher, but there is no checkpoint.")
            command += ['--teacher-ckpt', teacher_checkpoint]
        if resume:
            command.append('--resume')
        return [*command, '--cfg-options', *self.cfg_options]

    def test_command(self, role: str, checkpoint: str) -> list[str]:
        """Command that evaluates a checkpoint of a role."""
        command = [self.python, 'tools/test.py', str(self.config(role)), checkpoint]
        command += ['--work-dir', str(self.test_dir(role))]
        return [*command, '--cfg-options', *self.cfg_options]
