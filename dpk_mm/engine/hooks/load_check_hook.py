"""What a run is resumed from, or starts from, is its own model: looked at before it is loaded."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn

from dpk_mm.checkpoint.config_text import changed
from dpk_mm.checkpoint.student import STUDENT_PREFIX, student_state_dict
from dpk_mm.checkpoint.student_config import deployed, unwrap
from dpk_mm.checkpoint.weights import harmless_extras, is_counter
from dpk_mm.errors import UsageError, first_few

# Of a parameter group, what says nothing of the kind of optimizer, and may differ between releases of torch.
_COMMON = {'params', 'lr', 'weight_decay', 'param_names', 'decoupled_weight_decay'}
_COMMON |= {'maximize', 'foreach', 'fused', 'capturable', 'differentiable'}


class LoadCheckHook(Hook):
    """Looks at a checkpoint before mmengine loads it, which is not strict.

    - A run is resumed only from a checkpoint of its very model: mmengine would leave out what does not fit, go on with
      the optimizer's state of another model, and say so in the log alone. The optimizer has to be of the same kind,
      and what the config says differently of ``model`` (another teacher, other losses), learning rate or weight decay
      is a warning: the former holds from here on, the latter two are the checkpoint's.
    - A plain model that starts (``load_from``) from the checkpoint of a distillation gets the student of it.
    - Of a file with averaged (EMA) and raw weights the log says which ones are used.

    It is not named in configs: ``tools/train.py`` puts it into every run.

    Raises:
        UsageError: Before training, if the checkpoint to resume from is of another model or optimizer.
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
            _check_optimizers(runner, checkpoint)
            _compare_settings(runner, checkpoint)
            return
        if 'ema_state_dict' in checkpoint:
            runner.logger.info(
                f'{runner._load_from} holds averaged (EMA) and raw weights: the averaged ones are used; '
                'tools/export_student.py --raw-weights writes the others.'
            )
        distilled = any(name.startswith(STUDENT_PREFIX) for name in state)
        if distilled and not hasattr(model, STUDENT_PREFIX[:-1]):
            checkpoint['state_dict'] = student_state_dict(state)
            # The average begins with the student: mmpretrain's EMAHook would look for the names of the distillation.
            checkpoint.pop('ema_state_dict', None)
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


def _check_optimizers(runner: Runner, checkpoint: dict[str, Any]) -> None:
    """torch raises for another number of parameters, and at the first step for the state of another optimizer."""
    _check_parts(runner, checkpoint)
    for name, own, found in _optimizers(runner, checkpoint):
        sizes = [[len(group['params']) for group in groups] for groups in (found, own)]
        kinds = [set().union(*groups) - _COMMON for groups in (found, own)]
        kinds = [{key for key in kind if not key.startswith('initial_')} for kind in kinds]
        if sizes[0] != sizes[1]:
            said = [f'{len(s)} parameter groups of {sum(s)} tensors' for s in sizes]
        elif kinds[0] - kinds[1] and kinds[1] - kinds[0]:
            said = [f'{first_few(sorted(kind))} as settings' for kind in kinds]
        else:
            continue
        raise UsageError(
            f'--resume: {runner._load_from} is of another optimizer than {name} of the config: it has {said[0]}, '
            f'and the config {said[1]}; resume with the optim_wrapper that it was trained with, or start anew from its '
            f'weights with --cfg-options load_from={runner._load_from}, without --resume.'
        )


def _check_parts(runner: Runner, checkpoint: dict[str, Any]) -> None:
    """mmengine raises for several optimizers where there is one, and torch for a loss scale that was none."""
    states, wrapper = checkpoint.get('optimizer'), runner.optim_wrapper
    if not isinstance(states, dict) or not isinstance(wrapper, (OptimWrapper, OptimWrapperDict)):
        return
    source = runner._load_from
    anew = (
        f'or start anew from its weights with --cfg-options load_from={source}, without --resume.'
    )
    several = isinstance(wrapper, OptimWrapperDict)
    if not several and 'param_groups' not in states:
        raise UsageError(
            f'--resume: {source} is of several optimizers, {", ".join(states)}, and the config has one: resume with '
            f'the optim_wrapper that it was trained with, {anew}'
        )
    for name, part in wrapper.items() if several else [('optim_wrapper', wrapper)]:
        state, key = (states.get(name), f'optim_wrapper.{name}') if several else (states, name)
        scaler = getattr(part, 'loss_scaler', None)
        scales = scaler is not None and scaler.is_enabled()
        if scales and isinstance(state, dict) and state.get('loss_scaler') == {}:
            raise UsageError(
                f'--resume: {source} was trained without a loss scale, as with --amp bf16, and '
                f'{key} of the config has one: resume with --amp bf16, {anew}'
            )


def _compare_settings(runner: Runner, checkpoint: dict[str, Any]) -> None:
    """Warns of settings that are not those of the checkpoint's run."""
    before = (checkpoint.get('meta') or {}).get('cfg')
    if isinstance(before, str):
        differences = changed(before, runner.cfg.pretty_text, 'model')
        if differences:
            said = [f'{key} was {old} and is {new}' for key, (old, new) in differences.items()]
            runner.logger.warning(
                f'--resume: {runner._load_from} was trained with another model config, and the training goes on with '
                f'that of now: {first_few(said)}.'
            )
    for name, own, found in _optimizers(runner, checkpoint):
        for key, first in (('lr', 'initial_lr'), ('weight_decay', 'weight_decay')):
            pairs = [
                (old.get(first, old.get(key)), new.get(first, new.get(key)))
                for old, new in zip(found, own, strict=True)
            ]
            other = [pair for pair in pairs if None not in pair and pair[0] != pair[1]]
            if other:
                runner.logger.warning(
                    f'--resume: the {key} of the config, {other[0][1]:g} in {name}, is not used: a resumed training '
                    f'goes on with {other[0][0]:g} of {runner._load_from}; to change it, start anew from its weights '
                    f'with --cfg-options load_from={runner._load_from}, without --resume.'
                )


def _optimizers(
    runner: Runner, checkpoint: dict[str, Any]
) -> list[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]]:
    """Name, parameter groups of the run and of the checkpoint, of each optimizer that both have."""
    states = checkpoint.get('optimizer')
    wrapper = runner.optim_wrapper
    if not isinstance(states, dict) or not isinstance(wrapper, (OptimWrapper, OptimWrapperDict)):
        return []
    several = isinstance(wrapper, OptimWrapperDict)
    wrappers = dict(wrapper.items()) if several else {'optim_wrapper': wrapper}
    states = states if several else {'optim_wrapper': states}
    return [
        (
            f'optim_wrapper.{name}' if several else name,
            wrappers[name].optimizer.param_groups,
            states[name]['param_groups'],
        )
        for name in wrappers
        if isinstance(states.get(name), dict) and 'param_groups' in states[name]
    ]
