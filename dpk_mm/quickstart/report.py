"""What the demonstration reads from mmengine's files, and what it draws."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from ..analysis.detections import build_student, count_parameters, show_detections
from ..analysis.training_curves import load_scalars, plot_losses, plot_mask_ratio
from .plan import ROLES, Plan


def last_checkpoint(work_dir: Path) -> str | None:
    """Returns the newest checkpoint that a training finished writing, None if it is not there.

    mmengine names it in the file `last_checkpoint`, after the checkpoint itself is whole.
    """
    try:
        checkpoint = (work_dir / 'last_checkpoint').read_text(encoding='utf-8').strip()
    except FileNotFoundError:
        return None
    return checkpoint if checkpoint and Path(checkpoint).is_file() else None


def read_metrics(test_dir: Path) -> dict[str, float]:
    """Reads the metrics of the newest test run in a folder.

    Args:
        test_dir: Work dir of `tools/test.py`; mmengine writes `<timestamp>/<timestamp>.json`.

    Returns:
        `mAP` and `AP50`, in [0, 1]. A model without a single detection scores 0: mmdet then
        writes the file without box metrics.

    Raises:
        FileNotFoundError: If no test was finished there.
    """
    files = sorted(file for file in test_dir.glob('*/*.json') if file.stem == file.parent.name)
    if not files:
        raise FileNotFoundError(
            f'{test_dir}/<timestamp>/<timestamp>.json does not exist: the test wrote no metrics.'
        )
    metrics = json.loads(files[-1].read_text(encoding='utf-8'))
    return {
        'mAP': float(metrics.get('coco/bbox_mAP', 0.0)),
        'AP50': float(metrics.get('coco/bbox_mAP_50', 0.0)),
    }


def detector_parameters(config: Path) -> int:
    """Returns the number of parameters of a config's detector, the student if it distils."""
    return count_parameters(build_student(config), trainable_only=False)


def describe_device() -> str:
    """Names what the trainings run on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'CPU, {torch.get_num_threads()} threads'


def draw_pictures(plan: Plan, checkpoints: Mapping[str, str]) -> list[Path]:
    """Draws the curves and detections of finished trainings.

    Args:
        plan: The demonstration.
        checkpoints: Role -> checkpoint.

    Returns:
        The pictures' paths.
    """
    runs = {role: load_scalars(plan.train_dir(role)) for role in ROLES}
    ratio, losses, boxes = (plan.picture(n) for n in ('mask_ratio', 'losses', 'detections'))
    plot_mask_ratio(runs['dpk'], ratio, title='DPK + FGD: mask ratio follows the similarity')
    plot_losses(
        {ROLES[role]: scalars for role, scalars in runs.items()}, losses, title='Training losses'
    )
    show_detections(
        {ROLES[role]: (plan.root / plan.config(role), path) for role, path in checkpoints.items()},
        plan.data_root / 'annotations' / 'val.json',
        plan.data_root / 'val',
        boxes,
        score_threshold=0.5,
    )
    return [ratio, losses, boxes]
