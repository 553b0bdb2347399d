"""Two iterations, a validation and an export, before a training of hours: ``python -m dpk_mm.cli.distill.dry_run``.

It runs in a process of its own: whatever ends it, the tool that started it has a log and goes on.
"""

from __future__ import annotations

import argparse
import copy
import os
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope

from ...checkpoint.pretrained import remove_pretrained
from ...checkpoint.student import export_student, load_student, read_student
from ...checkpoint.student_config import is_distillation, student_config
from ...engine.runner.build import build_runner
from ...engine.runner.prepare import prepare_config
from ...errors import CheckpointError, UsageError
from ...fileio import DiskFullError
from ...functional.similarity import MIN_SAMPLES
from ..errors import readable_errors
from ..explain import explained_errors
from ..options import load_config
from .classes import task_of
from .drawn_data import set_drawn_data
from .plan import data_exist
from .schedule import check_begins
from .small_run import small_config

_BATCHES = 2
_IMAGES = 4
#: Without a GPU a batch of the zoo takes minutes; with one it shows whether the memory is enough.
#: Classifiers need as many images as CKA has samples, where each image is one.
_BATCH_ON_CPU = dict(detection=2, classification=MIN_SAMPLES)


def dry_run(file: str, work_dir: str) -> None:
    """Trains two iterations, validates on four images, exports the student and loads it into the plain model.

    Nothing is downloaded: weights named by an address are left out.

    Args:
        file: A config of a distillation or of a plain model.
        work_dir: Folder of what is written.

    Raises:
        UsageError: If something of it cannot be done.
    """
    cfg = load_config(file, None, work_dir)
    with readable_errors('dry run'):
        remove_pretrained(cfg.model, remote_only=True)
        if data_exist(cfg):
            # the short run leaves it out: it gives schedules of iterations an end that never comes
            check_begins(cfg, lambda: _iterations(cfg))
        else:
            print('The training data are not there: the dry run is on drawn images.')
            set_drawn_data(cfg, _task(cfg), Path(work_dir) / 'drawn')
        batch = None if torch.cuda.is_available() else _BATCH_ON_CPU[_task(cfg)]
        cfg = small_config(cfg, _BATCHES, _IMAGES, batch)
        cfg.load_from = None
        prepare_config(cfg)
    kinds = (UsageError, CheckpointError, DiskFullError, FileNotFoundError)
    with readable_errors('dry run', *kinds), explained_errors(cfg) as context:
        context['runner'] = runner = build_runner(cfg)
        runner.train()
        if is_distillation(cfg):
            exported = os.path.join(work_dir, 'student.pth')
            checkpoint = Path(work_dir, 'last_checkpoint').read_text(encoding='utf-8').strip()
            export_student(checkpoint, exported, force=True)
            _load_plainly(cfg, exported)
    print('dry run: training, validation' + (' and export' if is_distillation(cfg) else ''))


def _task(cfg: Config) -> str:
    return task_of(student_config(cfg) if is_distillation(cfg) else cfg)


def _iterations(cfg: Config) -> int:
    """Of the whole training, in a loop of epochs."""
    loader = cfg.train_dataloader
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        images = len(DATASETS.build(copy.deepcopy(loader.dataset)))
    return cfg.train_cfg.max_epochs * -(-images // loader.get('batch_size', 1))


def _load_plainly(cfg: Config, exported: str) -> None:
    """The exported student has to fit the plain model of mmdet or mmpretrain."""
    plain = student_config(cfg)
    with DefaultScope.overwrite_default_scope(plain.get('default_scope')):
        model = MODELS.build(plain.model)
    weights, _ = read_student(exported)
    load_student(model, weights, exported)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config')
    parser.add_argument('work_dir')
    args = parser.parse_args()
    with readable_errors('dry run', UsageError, CheckpointError):
        dry_run(args.config, args.work_dir)


if __name__ == '__main__':
    main()
