"""Hooks, loops and optimizers of mmdet, mmpretrain and mmrazor that do harm or nothing beside a distillation."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner, ValLoop
from mmrazor.engine.runner import SingleTeacherDistillValLoop as RazorValLoop
from mmrazor.registry import LOOPS

from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.errors import UsageError

from ...models.algorithms import DPKDistill
from ..optimizers.joint_optim_wrapper import JointOptimWrapper

_SEARCH = (
    'it looks for a search or a pruning (model.mutator), and a DPKDistill has none; take it out, and search or prune '
    'the student before or after the distillation'
)
#: Class of a hook -> why it cannot be used with a ``DPKDistill``, and what to do.
REFUSED = {
    'MeanTeacherHook': 'it would overwrite the trained teacher with an average of the student; take it out, and use '
    'EMAHook for an average of the student',
    'PrepareProtoBeforeValLoopHook': 'it renews the prototypes of a retriever only where that is the model itself, so '
    "the validation would use old ones; take it out, and evaluate the student with tools/test.py and the student's "
    'config, where the hook works',
    'DMCPSubnetHook': _SEARCH,
    'DumpSubnetHook': _SEARCH,
    'PruningStructureHook': _SEARCH,
    'ResourceInfoHook': _SEARCH,
    'EstimateResourcesHook': 'it would count the distiller with the student; take it out, and measure the student with '
    'tools/analysis/complexity.py',
}


class UpstreamCheckHook(Hook):
    """Refuses, before anything is changed, what cannot make sense with a ``DPKDistill``.

    The others find the student through the attributes that the algorithm forwards, see
    :class:`dpk_mm.models.algorithms.student_attributes.StudentAttributes`.

    It is not named in configs: ``tools/train.py`` puts it into every run.

    Raises:
        UsageError: Before training, with the name of the hook or the key of the optimizer.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Looks at the hooks and the optimizer."""
        if not isinstance(unwrap(runner.model), DPKDistill):
            return
        optim_wrapper: Any = runner.optim_wrapper
        several = isinstance(optim_wrapper, OptimWrapperDict)
        for hook in runner.hooks:
            name = _refused_name(hook)
            if name is not None:
                raise UsageError(
                    f'custom_hooks: {name} cannot be used with a DPKDistill: {REFUSED[name]}.'
                )
            if several and type(hook).__name__ == 'SimSiamHook':
                raise UsageError(
                    'custom_hooks: SimSiamHook needs one optimizer, but optim_wrapper has '
                    f'{", ".join(optim_wrapper.keys())}; set a single optim_wrapper.optimizer.'
                )
        if several and not isinstance(optim_wrapper, JointOptimWrapper):
            raise UsageError(
                'optim_wrapper: its constructor makes several optimizers, which DPKDistill cannot update from one '
                "loss; set optim_wrapper.constructor='mmrazor.DPKOptimWrapperConstructor', which takes the same parts."
            )


@LOOPS.register_module(force=True)
class SingleTeacherDistillValLoop(RazorValLoop):
    """mmrazor's loop of this name, which it takes the place of; most of mmrazor's distillation configs name it.

    Of a ``DPKDistill`` the student alone is validated. mmrazor's evaluates the teacher each time as well, in which
    ``EMAHook`` would exchange the weights three times and leave the averaged ones in training, and gives the teacher
    the student's ``data_preprocessor``.

    Args:
        runner: Of the run.
        *args: Of ``ValLoop``.
        **kwargs: Likewise.
    """

    def __init__(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        self._student_alone = isinstance(unwrap(runner.model), DPKDistill)
        if not self._student_alone:
            super().__init__(runner, *args, **kwargs)
            return
        ValLoop.__init__(self, runner, *args, **kwargs)
        runner.logger.info(
            'val_cfg.type is SingleTeacherDistillValLoop: the student alone is validated; TeacherCheckHook evaluates '
            'the teacher.'
        )

    def run(self) -> Any:
        """Validates the student, and the teacher of mmrazor's own algorithms."""
        return ValLoop.run(self) if self._student_alone else super().run()


def _refused_name(hook: Hook) -> str | None:
    """The entry of a hook or of a class that it inherits from."""
    return next((k.__name__ for k in type(hook).__mro__ if k.__name__ in REFUSED), None)
