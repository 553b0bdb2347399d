"""Modules that have another place now: importing the old one still works and says which, for one release."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from types import ModuleType
from typing import Any

# old module: the modules that have its content now
MOVED: dict[str, tuple[str, ...]] = {
    'dpk_mm.engine.cpu_amp': ('dpk_mm.engine.optimizers.cpu_amp',),
    'dpk_mm.engine.errors': ('dpk_mm.errors', 'dpk_mm.cli.errors'),
    'dpk_mm.engine.explain': ('dpk_mm.cli.explain',),
    'dpk_mm.engine.joint_optim_wrapper': ('dpk_mm.engine.optimizers.joint_optim_wrapper',),
    'dpk_mm.engine.launch': (
        'dpk_mm.cli.options',
        'dpk_mm.engine.runner.prepare',
        'dpk_mm.engine.runner.build',
    ),
    'dpk_mm.engine.resume': ('dpk_mm.checkpoint.resume',),
    'dpk_mm.engine.student': ('dpk_mm.checkpoint.student', 'dpk_mm.checkpoint.student_config'),
    'dpk_mm.models.algorithms.teacher_checkpoint': ('dpk_mm.models.teacher.checkpoint',),
    'dpk_mm.models.algorithms.teacher_fit': ('dpk_mm.models.teacher.input_size',),
    'dpk_mm.models.algorithms.teacher_input': ('dpk_mm.models.teacher.normalisation',),
    'dpk_mm.models.losses.fgd_weights': ('dpk_mm.models.loss_parts.fgd_weights',),
    'dpk_mm.models.losses.ground_truth': ('dpk_mm.models.loss_parts.ground_truth',),
    'dpk_mm.models.losses.stage': ('dpk_mm.models.loss_parts.stage',),
}

# old package: its place in the repository, outside the installed package
LEFT = {
    'dpk_mm.benchmark': 'tools.benchmark_suites',
    'dpk_mm.datasets': 'tools.shapes',
    'dpk_mm.experiments': 'tools.experiments',
    'dpk_mm.quickstart': 'tools.quickstart',
}


class MovedModuleFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Asked first: a folder that holds nothing but old caches would be found as a namespace package."""

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Finds the modules of :data:`MOVED`.

        Raises:
            ModuleNotFoundError: For the packages of :data:`LEFT`, with their new place.
        """
        if fullname in LEFT:
            raise ModuleNotFoundError(
                f'{fullname} is now {LEFT[fullname]}, in the repository and not in the installed package; import it '
                'from there.',
                name=fullname,
            )
        if fullname in MOVED:
            return importlib.machinery.ModuleSpec(fullname, self)
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Fills the old module with what the new ones have, and warns."""
        places = MOVED[module.__name__]
        warnings.warn(
            f'{module.__name__} is now {" and ".join(places)}; the old name goes with the next release.',
            FutureWarning,
            stacklevel=2,
        )
        for place in reversed(places):
            content = vars(importlib.import_module(place))
            vars(module).update({k: v for k, v in content.items() if not k.startswith('__')})


def install() -> None:
    """Lets old names be found so. Calling it again does nothing more."""
    if not any(isinstance(finder, MovedModuleFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, MovedModuleFinder())
