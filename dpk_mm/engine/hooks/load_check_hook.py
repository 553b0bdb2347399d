"""What a run is resumed from, or starts from, is its own model: looked at before it is loaded."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from dpk_mm.checkpoint.student import STUDENT_PREFIX, student_state_dict
from dpk_mm.checkpoint.student_config import deployed, unwrap
from dpk_mm.checkpoint.weights import harmless_extras, is_counter
from dpk_mm.errors import UsageError, first_few


class LoadCheckHook(Hook):
    """Looks at a checkpoint before mmengine loads it, which is not strict.

    - A run is resumed only from a checkpoint of its very model: mmengine would leave out what does not fit, go on with
      the optimizer's state of another model, and say so in the log alone.
    - A plain model that starts (``load_from``) from the checkpoint of a distillation gets the student of it.
    - Of a file with averaged (EMA) and raw weights the log says which ones are used.

    It is not named in configs: ``tools/train.py`` puts it into every run.

    Raises:
        UsageError: Before training, if the checkpoint to resume from is of another model.
    """

    priority = 'VERY_HIGH'  # before mmengine's EMAHook copies the weights

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Checks, and for a plain model changes, what mmengine is about to load."""
        state = checkpoint.get('state_dict')
        if not isinstance(state, dict):
            return
        model = deployed(unwrap(runner.model))
        if runner._resume:
            _check_resumed(model, state, runner._load_from)
            return
        if 'ema_state_dict' in checkpoint:
            runner.logger.info(
                f'{runner._load_from} holds averaged (EMA) and raw weights: the averaged ones are used; '
                'tools/export_student.py --raw-weights writes the others.'
            )
        distilled = any(name.startswith(STUDENT_PREFIX) for name in state)
        if distilled and not hasattr(model, STUDENT_PREFIX[:-1]):
            checkpoint['state_dict'] = student_state_dict(state)
            runner.logger.info(f'Of {runner._load_from}, a distillation, the student is used.')


def _check_resumed(model: nn.Module, state: dict[str, Any], source: str) -> None:
    own = model.state_dict()
    state = {name.removeprefix('module.'): value for name, value in state.items()}
    extras = harmless_extras(state, model)
    wrong = [
        f'{name} is {list(state[name].shape)} instead of {list(value.shape)}'
        for name, value in own.items()
        if isinstance(value, Tensor) and name in state and state[name].shape != value.shape
    ]
    wrong += [f'{name} is missing' for name in own if name not in state and not is_counter(name)]
    wrong += [f'{name} is unknown' for name in state if name not in own and name not in extras]
    if wrong:
        raise UsageError(
            f'--resume: {source} is of another model than that of the config, a {type(model).__name__}: '
            f'{first_few(wrong)}; give a checkpoint of this run, or start anew from its weights with '
            f'--cfg-options load_from={source}, without --resume.'
        )
