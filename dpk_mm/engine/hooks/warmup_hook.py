"""Which pass over the training data it is, for losses with a warm-up."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmrazor.registry import HOOKS

from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.errors import UsageError

from ...models.loss_parts.module_warmup import ModuleWarmup
from ...models.loss_parts.warmup import Warmup
from .passes import is_iteration_based, passes_so_far


@HOOKS.register_module()
class WarmupHook(Hook):
    """Sets ``done`` of every :class:`~dpk_mm.models.loss_parts.warmup.Warmup` of the model.

    Likewise ``iteration`` of every :class:`~dpk_mm.models.loss_parts.module_warmup.ModuleWarmup`.

    ``tools/train.py`` puts it into every run; a config names it only where another tool trains. It keeps no state: a
    resumed run goes on from the loop's own position.

    Raises:
        UsageError: (a ValueError) If a loss has a warm-up and the data have no length by which an iteration-based loop
            could count passes.
    """

    priority = 'NORMAL'

    def before_train(self, runner: Runner) -> None:
        """Finds the losses, and refuses data without a length before the first step."""
        modules = list(unwrap(runner.model).modules())
        self._of_modules = [m for m in modules if isinstance(m, ModuleWarmup)]
        found = [getattr(m, 'warmup', None) for m in modules]
        self._warmups = [w for w in found if isinstance(w, Warmup) and w.passes]
        self._set(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Says which pass begins."""
        self._set(runner)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        """Says it where the loop counts no passes, and which iteration begins."""
        for warmup in self._of_modules:
            warmup.iteration = runner.iter
        if is_iteration_based(runner):
            self._set(runner)

    def _set(self, runner: Runner) -> None:
        if not self._warmups:
            return
        try:
            done = passes_so_far(runner)
        except UsageError:
            raise UsageError(
                f'{self._warmups[0].owner} has a warm-up in passes over the training data, but '
                'train_dataloader.dataset has no length by which an iteration-based loop could count them; set '
                'warmup=0.'
            ) from None
        for warmup in self._warmups:
            warmup.done = done
