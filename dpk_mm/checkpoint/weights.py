"""The weights that a file holds, and the entries beside them that no model needs.

The tools that load a teacher or a student exactly share this: a weight of the model that the file lacks is always an
error, and so is an entry of the file that the model does not have, unless it is one of those named here.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..errors import UsageError

# Entries that no prediction depends on. None of them excuses a weight that is missing.
EXTRA_PREFIXES = ('data_preprocessor.',)  # mean and std: those of the config are used
EXTRA_SUFFIXES = (
    'num_batches_tracked',  # batch norm counts batches, and does not use the count
    'relative_position_index',  # Swin: computed from the window size
    'relative_coords_table',
    'attn_mask',
    'total_ops',  # left by counters of operations
    'total_params',
)
AVERAGE_COUNTERS = ('steps', 'n_averaged')  # of mmengine's and torch's averaged models

# Where files keep their weights, and an averaged copy beside them (timm, DeiT).
_CONTAINERS = ('state_dict', 'model')
_AVERAGED = ('state_dict_ema', 'model_ema')


def ema_copies(names: Iterable[str]) -> dict[str, str]:
    """The copies of weights that the EMA hooks of mmdet 2 and mmcls write among the weights.

    Args:
        names: Of a state dict.

    Returns:
        Name of the copy, such as ``ema_backbone_conv1_weight``, to the name of the weight.
    """
    names = [name for name in names if isinstance(name, str)]
    copies = {'ema_' + name.replace('.', '_'): name for name in names}
    return {name: copies[name] for name in names if name in copies}


def is_counter(name: str) -> bool:
    """Whether a name is batch norm's count of batches, which files of old releases lack."""
    return name.endswith('num_batches_tracked')


def harmless_extras(state: Mapping[str, Any], model: nn.Module | None = None) -> set[str]:
    """The entries of a state dict that may stand in a file though the model does not have them.

    Args:
        state: Of the file, under the names of the model.
        model: The model; buffers that it computes itself (``persistent=False``) are harmless then, too.
    """
    computed = set(_computed_buffers(model)) if model is not None else set()
    copies = ema_copies(state)
    return {
        name
        for name in state
        if name in copies
        or name in computed
        or name in AVERAGE_COUNTERS
        or name.startswith(EXTRA_PREFIXES)
        or name.endswith(EXTRA_SUFFIXES)
    }


def select_weights(
    checkpoint: Mapping[str, Any], averaged: bool = True
) -> tuple[OrderedDict[str, Any], str | None]:
    """The weights of a loaded file, and which ones of two sets they are.

    Training with an exponential moving average (EMA) leaves two sets. mmengine's ``EMAHook`` keeps the averaged ones
    under ``state_dict`` and the raw ones under ``ema_state_dict`` (it exchanges them when it saves); the hooks of
    mmdet 2 and mmcls likewise, with the raw ones as ``ema_*`` among the others; timm and DeiT the raw ones under
    ``state_dict`` or ``model`` and the averaged ones under ``state_dict_ema`` or ``model_ema``.

    Args:
        checkpoint: What the file holds: a dict with the weights under ``state_dict`` or ``model``, or the weights
            themselves; with or without ``module.`` before every name.
        averaged: Which set is taken where there are two.

    Returns:
        The weights, without the copies and counters of the average, and a sentence that says which set they are, or
        None if there is only one. The tensors are not copied.

    Raises:
        UsageError: If the raw weights are asked for and there is only one set.
    """
    key = next((k for k in _CONTAINERS if isinstance(checkpoint.get(k), Mapping)), None)
    state = _unwrapped(checkpoint if key is None else checkpoint[key])
    copies = ema_copies(state)
    kept = _like(state, ((k, v) for k, v in state.items() if k not in copies))
    sets: dict[bool, OrderedDict[str, Any]] = {}
    if key is not None and isinstance(checkpoint.get('ema_state_dict'), Mapping):
        sets = {True: kept, False: _unwrapped(checkpoint['ema_state_dict'])}
    elif copies:
        of_weight = {weight: copy for copy, weight in copies.items()}
        raw = _like(state, ((k, state[of_weight.get(k, k)]) for k in kept))
        sets = {True: kept, False: raw}
    else:
        other = next((k for k in _AVERAGED if isinstance(checkpoint.get(k), Mapping)), None)
        if key is not None and other is not None:
            sets = {True: _unwrapped(checkpoint[other]), False: kept}
    if sets:
        kind = 'averaged (EMA)' if averaged else 'raw'
        return sets[averaged], f'of the two sets of weights in the file the {kind} ones are used'
    if not averaged:
        raise UsageError(
            'the weights before averaging (EMA) were asked for, but the file holds one set of weights only: leave '
            'the option out, or give the checkpoint that the training wrote.'
        )
    return kept, None


@dataclass
class Misfits:
    """The entries of a file that do not fit a model."""

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    # name: (shape in the file, shape in the model)
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    # what a module itself refused, one line each
    errors: list[str] = field(default_factory=list)


def load_exactly(model: nn.Module, state: Mapping[str, Tensor]) -> Misfits:
    """Loads weights into a model and returns what does not fit; harmless extras are not counted.

    Nothing is loaded where a shape differs: some models resize a weight instead, and that would hide that the file is
    for another image size.

    Args:
        model: Changed in place.
        state: Weights under the names of the model.

    Returns:
        What is missing, left over or of another shape. Batch norm's counters may be missing.
    """
    expected = model.state_dict()
    shapes = {
        name: (tuple(state[name].shape), tuple(value.shape))
        for name, value in expected.items()
        if name in state and isinstance(value, Tensor) and state[name].shape != value.shape
    }
    if shapes:
        return Misfits(shapes=shapes)
    # Afterwards, since a model's own hooks may rename what older files hold.
    try:
        keys = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        lines = [line.strip().rstrip('.') for line in str(error).splitlines()[1:]]
        return Misfits(errors=lines or [str(error)])
    extras = harmless_extras(state, model)
    warn_of_normalisation(model, state)
    return Misfits(
        missing=[name for name in keys.missing_keys if not is_counter(name)],
        unexpected=[name for name in keys.unexpected_keys if name not in extras],
    )


def saved_names(model: nn.Module) -> dict[str, str]:
    """The names under which a model saves its tensors, by their places in it, where the two differ.

    mmpretrain's wrapper of timm's networks saves ``model.conv_stem.weight`` as ``conv_stem.weight``; torch reports what
    a file lacks by place.
    """
    places = {
        id(value): name for name, value in (*model.named_parameters(), *model.named_buffers())
    }
    return {
        places[id(value)]: name
        for name, value in model.state_dict(keep_vars=True).items()
        if places.get(id(value), name) != name
    }


def warn_of_normalisation(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Warns if the file was trained with another mean or standard deviation than the model has."""
    buffers = _computed_buffers(model)
    for name in ('data_preprocessor.mean', 'data_preprocessor.std'):
        given, own = state.get(name), buffers.get(name)
        if not isinstance(given, Tensor):
            continue
        given = given.flatten().float().cpu()
        if own is not None:
            own = own.flatten().float().cpu()
            if own.shape == given.shape and torch.allclose(own, given, rtol=1e-4, atol=1e-4):
                continue
        found = 'none' if own is None else [round(float(value), 3) for value in own]
        print_log(
            f'The file says {name} = {[round(float(value), 3) for value in given]}, but the config of the '
            f'{type(model).__name__} has {found}: the weights were trained with the former; the latter is used.',
            'current',
            logging.WARNING,
        )


def _computed_buffers(model: nn.Module) -> dict[str, Tensor]:
    saved = model.state_dict()
    return {name: value for name, value in model.named_buffers() if name not in saved}


def _unwrapped(state: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """Takes off ``module.``, which wrappers for ranks and for averages put before every name."""
    names = [name for name in state if name not in AVERAGE_COUNTERS]
    if not names or not all(str(name).startswith('module.') for name in names):
        return _like(state, state.items())
    pairs = ((name[len('module.') :], state[name]) for name in names)
    metadata = getattr(state, '_metadata', None)
    inner = OrderedDict(pairs)
    if metadata is not None:
        inner._metadata = OrderedDict(  # type: ignore[attr-defined]
            ((name + '.')[len('module.') : -1], value)
            for name, value in metadata.items()
            if (name + '.').startswith('module.')
        )
    return inner


def _like(state: Mapping[str, Any], pairs: Iterable[tuple[str, Any]]) -> OrderedDict[str, Any]:
    """A new dict with the metadata of a state dict, by which modules convert older layouts."""
    result = OrderedDict(pairs)
    if getattr(state, '_metadata', None) is not None:
        result._metadata = state._metadata  # type: ignore[attr-defined]
    return result
