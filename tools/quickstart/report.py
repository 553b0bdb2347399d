"""What the demonstration shows of its models and their logs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from dpk_mm.analysis.detections import show_detections
from dpk_mm.analysis.loading import build_student
from dpk_mm.analysis.report import load_run, write_page
from dpk_mm.analysis.training_curves import load_scalars, plot_losses, plot_mask_ratio
from dpk_mm.cli.process import worker_threads
from dpk_mm.modules.parameters import count_parameters

from .plan import BASELINE, ROLES, Plan


def detector_parameters(config: Path) -> int:
    """Returns the number of parameters of a config's detector, the student if it distils."""
    return count_parameters(build_student(config), trainable_only=False)


def describe_device() -> str:
    """Names what the trainings run on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = worker_threads()
    return f'CPU, {threads} thread{"" if threads == "1" else "s"}'


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


def write_report(plan: Plan) -> Path:
    """Writes the page with all trainings side by side.

    Args:
        plan: The demonstration.

    Returns:
        The page's path.
    """
    runs = [load_run(plan.train_dir(role), name) for role, name in ROLES.items()]
    title = f'Mini {plan.detector} on the shapes set'
    write_page(runs, plan.page(), baseline=ROLES[BASELINE], title=title)
    return plan.page()
