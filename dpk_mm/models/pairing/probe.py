"""One forward pass of a network that is built for it: which modules give features of which shapes, and the logits."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from ...checkpoint.pretrained import remove_pretrained
from ...checkpoint.type_names import type_name
from ...errors import UsageError, first_few, without_period
from ..teacher.input_size import expected_size, network_of
from .networks import Network

Size = tuple[int, int]
TASKS = {'mmdet': 'detector', 'mmpretrain': 'classifier'}
# Where the forward pass has to compute numbers, since an operator knows no shapes alone.
_SMALL = 256
# A backbone that returns maps of so many strides returns its stages; with fewer they are found among its modules.
_SEVERAL = 3
# Share of the cells that convolutions without padding take away at most.
_CUT = 0.08
# In powers of two: what a stride of a small image may differ from one by rounding.
_ROUNDING = 0.2


class Feature(NamedTuple):
    """A feature of one side.

    Attributes:
        source: The module that gives it.
        index: Its place in the tuple that the module returns; None where the module returns it alone.
        channels: C of ``[N, C, H, W]`` or ``[N, L, C]``.
        cells: (rows, columns).
        stride: Pixels of the image for a cell.
        extra_tokens: Class and distillation tokens in front, of ``[N, L, C]``.
        tokens: Whether it is ``[N, L, C]``.
        alone: A module that returns it alone, where ``index`` is given.
    """

    source: str
    index: int | None
    channels: int
    cells: Size
    stride: float
    extra_tokens: int = 0
    tokens: bool = False
    alone: str = ''


@dataclass
class Look:
    """What a forward pass has shown.

    Attributes:
        task: ``'detector'`` or ``'classifier'``.
        kind: The class of the model.
        size: (height, width) of the images.
        own_size: The size that the network was made for; None if it takes any.
        features: Shallow first.
        why_none: Why there is no feature, if there is none.
        logits: The module that gives the logits, of a classifier.
        classes: Their number; of a detector that of its head.
        embedding: Width of what the last linear layer reads, or None.
        parameters: Number of all parameters.
        operations: Multiplications of convolutions and linear layers.
        shapes: Name -> shape of the state dict.
        children: Names of the parts at the top.
        attributes: What else of the model is asked for.
        image_channels: Channels of the images that it takes.
    """

    task: str
    kind: str
    size: Size
    own_size: Size | None
    features: list[Feature] = field(default_factory=list)
    why_none: str = ''
    logits: str | None = None
    classes: int | None = None
    embedding: int | None = None
    parameters: int = 0
    operations: float = 0
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    children: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    image_channels: int = 3


class _Event(NamedTuple):
    name: str
    module: nn.Module
    output: Any


def build(network: Network) -> nn.Module:
    """The model of a network, on the CPU, with nothing downloaded and no random number drawn.

    Raises:
        UsageError: (a ValueError) If it cannot be built.
    """
    cfg = copy.deepcopy(network.model)
    remove_pretrained(cfg)
    cfg.pop('_scope_', None)
    scope = DefaultScope.overwrite_default_scope(network.scope)
    with torch.random.fork_rng(devices=[]), scope, _no_loading():
        try:
            model = MODELS.build(ConfigDict(cfg))
        except Exception as error:
            raise UsageError(
                f'{network.key}: {network.name or type_name(network.model.type)} cannot be built: '
                f'{without_period(error)}.'
            ) from error
    return model.eval()


@contextmanager
def _no_loading() -> Iterator[None]:
    """Lets mmengine refuse to load a file, which some models of self-supervised training do when they are built."""
    original = vars(CheckpointLoader)['load_checkpoint']

    def refuse(cls: type, filename: str, *args: Any, **kwargs: Any) -> None:
        raise UsageError(f'it loads {filename} when it is built, which is not done to look at it.')

    CheckpointLoader.load_checkpoint = classmethod(refuse)
    try:
        yield
    finally:
        CheckpointLoader.load_checkpoint = original


def own_size(model: nn.Module) -> Size | None:
    """The (height, width) that a built model was made for, or None if it takes any."""
    return expected_size(network_of(model))


def look_at(model: nn.Module, network: Network, size: Size) -> Look:
    """Runs a built model once.

    Args:
        model: Of :func:`build`; it is on the device ``meta`` afterwards.
        network: Where it is from.
        size: (height, width) of the images.

    Raises:
        UsageError: (a ValueError) If it cannot be run.
    """
    task = TASKS[network.scope]
    look = Look(task, type(model).__name__, size, own_size(model))
    look.parameters = sum(p.numel() for p in model.parameters())
    look.shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    look.attributes['backbone'] = type(network_of(model)).__name__
    look.children = tuple(name for name, _ in model.named_children())
    events, result, used, look.image_channels = _run(model, network, task, size, look.own_size)
    look.operations = sum(map(_operations, events))
    if task == 'detector':
        look.features = _pyramid(events, used, look)
        look.classes = _head_classes(model)
        look.attributes['family'] = _family(model)
        look.attributes['roi_strides'] = _roi_strides(model)
    else:
        look.features = _stages(events, used, look)
        _find_logits(events, result, look)
    if used != size:
        look.features = [_at(size, feature) for feature in look.features]
        look.operations *= size[0] * size[1] / (used[0] * used[1])
    return look


def _at(size: Size, feature: Feature) -> Feature:
    """What was found on small images, as it is on images of ``size``."""
    if feature.tokens:
        patch = round(feature.stride)
        return feature._replace(cells=(max(1, size[0] // patch), max(1, size[1] // patch)))
    power = _power(feature.stride)
    near = abs(math.log2(feature.stride / power)) < _ROUNDING
    stride = float(power) if near else feature.stride
    cells = (math.ceil(size[0] / stride), math.ceil(size[1] / stride))
    return feature._replace(cells=cells, stride=stride)


def _run(
    model: nn.Module, network: Network, task: str, size: Size, fixed: Size | None
) -> tuple[list[_Event], Any, Size, int]:
    """The outputs of all modules on colour images, or on images of as many channels as the first convolution takes."""
    first = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)
    try:
        return *_run_on(3, model, network, task, size, fixed), 3
    except UsageError:
        if first != 3:
            # that of a network that rearranges a colour image first has more channels, and fails again
            with suppress(UsageError):
                return *_run_on(first, model, network, task, size, fixed), first
        raise


def _run_on(
    channels: int, model: nn.Module, network: Network, task: str, size: Size, fixed: Size | None
) -> tuple[list[_Event], Any, Size]:
    """The outputs of all modules, by the shapes alone where that is possible."""
    small = size if fixed or max(size) <= _SMALL else _shrunk(size)
    error: Exception | None = None
    for device, used in (('meta', size), ('cpu', small)):
        # of a model on meta nothing can be computed any more
        candidate = model.to(device) if error is None else build(network)
        events: list[_Event] = []
        handles = [
            module.register_forward_hook(_recorder(events, name))
            for name, module in candidate.named_modules()
        ]
        images = torch.zeros(2, channels, *used, device=device)
        try:
            with torch.no_grad(), DefaultScope.overwrite_default_scope(network.scope):
                if task == 'detector':
                    result = candidate.extract_feat(images)
                else:
                    result = candidate(images, mode='tensor')
            return events, result, used
        except Exception as failure:
            error = failure
        finally:
            for handle in handles:
                handle.remove()
    raise UsageError(
        f'{network.key}: {network.name or type_name(network.model.type)} cannot be run on images of '
        f'{used[0]}x{used[1]}: {without_period(error)}.'
    ) from error


def _recorder(events: list[_Event], name: str) -> Any:
    return lambda module, _, output: events.append(_Event(name, module, output))


def _shrunk(size: Size) -> Size:
    factor = _SMALL / max(size)
    return max(64, round(size[0] * factor / 32) * 32), max(64, round(size[1] * factor / 32) * 32)


def _operations(event: _Event) -> float:
    weight = getattr(event.module, 'weight', None)
    if not isinstance(event.module, (nn.Conv2d, nn.Linear)) or not isinstance(event.output, Tensor):
        return 0.0
    return event.output.numel() * weight.numel() / weight.shape[0]


# Detectors


def _pyramid(events: Sequence[_Event], size: Size, look: Look) -> list[Feature]:
    """The maps of the neck, else of the backbone."""
    for source in ('neck', 'backbone'):
        outputs = [event.output for event in events if event.name == source]
        if not outputs:
            continue
        output = outputs[-1]
        if isinstance(output, Tensor):
            found = _map(output, source, None, size)
            return [found] if found else []
        items = list(output) if isinstance(output, (list, tuple)) else []
        maps = [_map(item, source, i, size) for i, item in enumerate(items)]
        found_maps = [feature for feature in maps if feature]
        if found_maps:
            return sorted(found_maps, key=lambda feature: feature.stride)
    look.why_none = f'neither the neck nor the backbone of a {look.kind} gives maps'
    return []


def _map(value: Any, source: str, index: int | None, size: Size) -> Feature | None:
    """The feature, if it is ``[N, C, H, W]`` with the same stride along both sides."""
    if not isinstance(value, Tensor) or value.ndim != 4:
        return None
    rows, columns = value.shape[2:]
    if rows > size[0] or columns > size[1] or not rows * columns:
        return None
    stride = math.sqrt(size[0] / rows * size[1] / columns)
    # a cell of rounding on each side
    for length, cells in zip(size, (rows, columns), strict=True):
        if abs(length / stride - cells) >= 1.5:
            return None
    return Feature(source, index, value.shape[1], (rows, columns), stride)


def _head_classes(model: nn.Module) -> int | None:
    for name in (
        'roi_head.bbox_head',
        'roi_head.mask_head',
        'bbox_head',
        'mask_head',
        'panoptic_head',
    ):
        try:
            head = model.get_submodule(name)
        except AttributeError:
            continue
        heads = list(head) if isinstance(head, nn.ModuleList) else [head]
        count = getattr(heads[-1], 'num_classes', None)
        if isinstance(count, int):
            return count
    return None


def _family(model: nn.Module) -> str:
    """``'two_stage'``, ``'one_stage'`` (with anchors) or ``'anchor_free'``."""
    if isinstance(getattr(model, 'roi_head', None), nn.Module):
        return 'two_stage'
    head = getattr(model, 'bbox_head', None)
    generator = type(getattr(head, 'prior_generator', None)).__name__
    return 'one_stage' if generator.endswith('AnchorGenerator') else 'anchor_free'


def _roi_strides(model: nn.Module) -> tuple[int, ...]:
    """The strides of the levels from which the boxes' features are taken, of a two-stage detector."""
    extractor = getattr(getattr(model, 'roi_head', None), 'bbox_roi_extractor', None)
    if isinstance(extractor, nn.ModuleList) and len(extractor):
        extractor = extractor[0]
    return tuple(getattr(extractor, 'featmap_strides', ()) or ())


# Classifiers


def _stages(events: Sequence[_Event], size: Size, look: Look) -> list[Feature]:
    """One feature for each stride; of a transformer with one resolution its last block."""
    inside = [event for event in events if _in_network(event.name)]
    layouts = [layout for event in inside if (layout := _layout(event.output, size))]
    if not layouts:
        look.why_none = f'no module of a {look.kind} gives a map or tokens'
        return []
    outermost = next((e for e in events if e.name == 'backbone'), None)
    shortest = _shortest_names(inside)
    last_map = _last_item(outermost.output, shortest, size) if outermost else None
    layout = 'map' if last_map else layouts[-1]
    if layout == 'channels_last':
        look.why_none = f'the features of a {look.kind} are [N, H, W, C], with the channels last'
        return []
    if layout == 'tokens':
        return [_last_tokens(inside, size)]
    several = _by_stride(_item_maps(outermost.output, shortest, size)) if outermost else []
    if len(several) >= _SEVERAL:
        return several
    by_stride: dict[int, Feature] = {}
    depth: dict[int, int] = {}
    for event in inside:
        for tensor in _single(event.output):
            found = _large_map(tensor, shortest[id(tensor)], None, size)
            if not found or not _is_stage(found, size):
                continue
            stride, level = _power(found.stride), found.source.count('.')
            if level <= depth.get(stride, level):
                by_stride[stride], depth[stride] = found, level
    if last_map:
        by_stride = {k: f for k, f in by_stride.items() if k < _power(last_map.stride)}
        by_stride[_power(last_map.stride)] = last_map
    return [by_stride[stride] for stride in sorted(by_stride)]


def _in_network(name: str) -> bool:
    return name.partition('.')[0] in ('backbone', 'model', 'vision_backbone', 'timm_model')


def _shortest_names(events: Sequence[_Event]) -> dict[int, str]:
    """For each tensor that a module returns alone, by its id, the outermost module that does."""
    names: dict[int, str] = {}
    for event in sorted(events, key=lambda event: event.name.count('.')):
        for tensor in _single(event.output):
            names.setdefault(id(tensor), event.name)
    return names


def _item_maps(output: Any, names: Mapping[int, str], size: Size) -> list[Feature]:
    """The maps of the tuple that the backbone returns."""
    items = list(output) if isinstance(output, (list, tuple)) else []
    maps = [(item, _large_map(item, 'backbone', i, size)) for i, item in enumerate(items)]
    return [found._replace(alone=names.get(id(item), '')) for item, found in maps if found]


def _last_item(output: Any, names: Mapping[int, str], size: Size) -> Feature | None:
    """The last map of what the backbone returns."""
    if isinstance(output, Tensor):
        return _large_map(output, 'backbone', None, size)
    return next(reversed(_item_maps(output, names, size)), None)


def _by_stride(features: Sequence[Feature]) -> list[Feature]:
    """The last one of each stride, shallow first."""
    found = {_power(feature.stride): feature for feature in features}
    return [found[stride] for stride in sorted(found)]


def _single(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output


def _is_stage(feature: Feature, size: Size) -> bool:
    """Whether the stride is a whole number but for what convolutions without padding cut off.

    The attention of 196 tokens, ``[N, heads, 196, 196]``, is no map of a 224 pixels wide image.
    """
    exact = [length / round(feature.stride) for length in size]
    return all(
        abs(n - cells) <= max(2, _CUT * n) for n, cells in zip(exact, feature.cells, strict=True)
    )


def _power(stride: float) -> int:
    return 2 ** round(math.log2(stride))


def _large_map(value: Any, source: str, index: int | None, size: Size) -> Feature | None:
    found = _map(value, source, index, size)
    return found if found and min(found.cells) > 1 else None


def _layout(output: Any, size: Size) -> str:
    """``'map'``, ``'channels_last'``, ``'tokens'`` or an empty text for something else."""
    if not isinstance(output, Tensor):
        return ''
    if _large_map(output, '', None, size):
        return 'map'
    if output.ndim == 4 and _large_map(output.permute(0, 3, 1, 2), '', None, size):
        return 'channels_last'
    return 'tokens' if output.ndim == 3 and _grid(output, size) else ''


def _grid(tokens: Tensor, size: Size) -> tuple[Size, int, int] | None:
    """Cells, stride and extra tokens of ``[N, L, C]``: the fewest extra tokens, at most 4."""
    length = tokens.shape[1]
    best = None
    for patch in range(4, max(size) + 1):
        cells = (size[0] // patch, size[1] // patch)
        extra = length - cells[0] * cells[1]
        if min(cells) > 1 and 0 <= extra <= 4 and (best is None or extra < best[2]):
            best = (cells, round(size[0] / cells[0]), extra)
    return best


def _last_tokens(events: Sequence[_Event], size: Size) -> Feature:
    """The last block, by its name the shortest of those that return the same tensor; not a norm after it."""
    found = [
        event
        for event in events
        if isinstance(event.output, Tensor)
        and event.output.ndim == 3
        and event.output.shape[0] == 2
        and _grid(event.output, size)
        and 'norm' not in type(event.module).__name__.lower()
        and not isinstance(event.module, (nn.Identity, nn.Dropout))
    ]
    last = found[-1]
    same = [event.name for event in events if event.output is last.output]
    source = min(same, key=lambda name: (name.count('.'), len(name)))
    cells, patch, extra = _grid(last.output, size)  # type: ignore[misc]
    return Feature(source, None, last.output.shape[2], cells, patch, extra, True)


def _find_logits(events: Sequence[_Event], result: Any, look: Look) -> None:
    """The innermost module whose output is that of the model."""
    if not isinstance(result, Tensor) or result.ndim != 2:
        return
    names = [event for event in events if event.output is result and event.name]
    if not names:
        return
    innermost = max(names, key=lambda event: event.name.count('.'))
    look.logits = innermost.name
    look.classes = result.shape[1]
    look.embedding = getattr(innermost.module, 'in_features', None)


def describe(features: Sequence[Feature]) -> str:
    """The strides of features, for a sentence."""
    return first_few([f'{feature.stride:.4g}' for feature in features], most=8) or 'none'
