"""Modules that have another place now: importing the old one says which."""

from __future__ import annotations

import importlib.abc
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_IN_REPOSITORY = 'in the repository and not in the installed package'

MOVED = {
    'dpk_mm.benchmark': f'tools.benchmark_suites, {_IN_REPOSITORY}',
    'dpk_mm.datasets': f'tools.shapes, {_IN_REPOSITORY}',
    'dpk_mm.engine.cpu_amp': 'dpk_mm.engine.optimizers.cpu_amp',
    'dpk_mm.engine.errors': 'dpk_mm.errors (and dpk_mm.cli.errors)',
    'dpk_mm.engine.explain': 'dpk_mm.cli.explain',
    'dpk_mm.engine.joint_optim_wrapper': 'dpk_mm.engine.optimizers.joint_optim_wrapper',
    'dpk_mm.engine.launch': 'dpk_mm.cli.options, dpk_mm.engine.runner.prepare and dpk_mm.engine.runner.build',
    'dpk_mm.engine.resume': 'dpk_mm.checkpoint.resume',
    'dpk_mm.engine.student': 'dpk_mm.checkpoint.student (its config: dpk_mm.checkpoint.student_config)',
    'dpk_mm.experiments': f'tools.experiments, {_IN_REPOSITORY}',
    'dpk_mm.models.algorithms.teacher_checkpoint': 'dpk_mm.models.teacher.checkpoint',
    'dpk_mm.models.algorithms.teacher_fit': 'dpk_mm.models.teacher.input_size',
    'dpk_mm.models.algorithms.teacher_input': 'dpk_mm.models.teacher.normalisation',
    'dpk_mm.models.losses.fgd_weights': 'dpk_mm.models.loss_parts.fgd_weights',
    'dpk_mm.models.losses.ground_truth': 'dpk_mm.models.loss_parts.ground_truth',
    'dpk_mm.models.losses.stage': 'dpk_mm.models.loss_parts.stage',
    'dpk_mm.quickstart': f'tools.quickstart, {_IN_REPOSITORY}',
}


class MovedModuleFinder(importlib.abc.MetaPathFinder):
    """Asked first: a folder that holds nothing but old caches would be found as a namespace package."""

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Names the new place of a module that has one.

        Raises:
            ModuleNotFoundError: For the old names of :data:`MOVED`.
        """
        if fullname in MOVED:
            raise ModuleNotFoundError(
                f'{fullname} is now {MOVED[fullname]}; import it from there.', name=fullname
            )
        return None


def install() -> None:
    """Lets imports of old names end in that sentence. Calling it again does nothing more."""
    if not any(isinstance(finder, MovedModuleFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, MovedModuleFinder())
