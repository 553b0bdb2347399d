"""Where our code makes the host wait for the device, in one training step."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from mmengine.device import get_device
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

import dpk_mm

from .batches import make_batch
from .rows import Row
from .steps import build_step, default_image_size, load_config, mask_ratio_hooks
from .timing import Case

PACKAGE = Path(dpk_mm.__file__).parent
# What asks a tensor for its content, or for a shape that depends on it.
READS = {
    '__array__',
    '__bool__',
    '__float__',
    '__index__',
    '__int__',
    'allclose',
    'argwhere',
    'bincount',
    'cpu',
    'equal',
    'is_nonzero',
    'item',
    'masked_select',
    'nonzero',
    'numpy',
    'tolist',
    'unique',
}
FROM_HOST = {'as_tensor', 'from_numpy', 'new_tensor', 'tensor'}


def _place(frame: FrameType | None) -> tuple[str, bool]:
    """The line of our code that is nearest to a call, and whether nobody else's is nearer."""
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if PACKAGE in file.parents and file != Path(__file__):
            return f'{file.relative_to(PACKAGE).as_posix()}:{frame.f_lineno}', True
        is_torch = 'torch' in file.parts or frame.f_code.co_filename.startswith('<')
        if not is_torch and file != Path(__file__) and file.name != 'warnings.py':
            return '', False
        frame = frame.f_back
    return '', False


class HostReads(TorchFunctionMode):
    """Counts by place what would make the host wait if all tensors of a step lay on a GPU.

    On a CPU every tensor is in the same memory. Here a tensor counts as the device's unless it was made without naming
    a device, came out of ``Tensor.cpu()`` or :class:`~dpk_mm.functional.HostCopy`, or was computed of such
    tensors alone. Counted are reads of the device's tensors, indexing by their bools, and copies of new ones from the
    host (from pageable memory, for which CUDA waits, too).
    """

    def __init__(self) -> None:
        super().__init__()
        self.places: Counter[str] = Counter()
        self._host = WeakTensorKeyDictionary()

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.__name__
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        on_device = any(t not in self._host for t in tensors)
        named_device = kwargs.get('device') is not None
        waits = (
            (on_device and (name in READS or _indexes_by_content(name, args)))
            or (name in FROM_HOST and (named_device or name == 'new_tensor'))
            or (name == 'to' and not on_device and _names_device(args, kwargs))
        )
        if waits:
            place, ours = _place(sys._getframe(1))
            if ours:
                self.places[place] += 1
        out = func(*args, **kwargs)
        from_host = (not tensors and not named_device) or (tensors and not on_device and not waits)
        in_copy = sys._getframe(1).f_code.co_filename.endswith('host_copy.py')
        if from_host or in_copy or name == 'cpu':
            for result in tree_leaves(out):
                if isinstance(result, Tensor) and not any(result is t for t in tensors):
                    self._host[result] = True
                elif isinstance(result, Tensor) and name == 'cpu':
                    # On a CPU that is the same tensor; elsewhere it is a copy.
                    out = result.clone()
                    self._host[out] = True
        return out


def _indexes_by_content(name: str, args: tuple) -> bool:
    if name == 'where':
        return len(args) == 1
    if name == 'repeat_interleave':
        return any(isinstance(a, Tensor) for a in args[1:])
    if name == '__setitem__' and not isinstance(args[2], Tensor):
        return False  # a plain number is filled in without asking how many
    if name in ('__getitem__', '__setitem__'):
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        return any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in index)
    return False


def _names_device(args: tuple, kwargs: dict) -> bool:
    return kwargs.get('device') is not None or any(isinstance(a, torch.device) for a in args)


@contextlib.contextmanager
def _cuda_waits(places: Counter[str]) -> Iterator[None]:
    """What CUDA itself says."""
    before = torch.cuda.get_sync_debug_mode()
    shown = warnings.showwarning

    def count(message: Any, *args: Any, **kwargs: Any) -> None:
        if 'synchronizing' not in str(message):
            return
        place, ours = _place(sys._getframe(1))
        if ours:
            places[place] += 1

    with warnings.catch_warnings():
        warnings.simplefilter('always')
        warnings.showwarning = count
        torch.cuda.set_sync_debug_mode('warn')
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
            warnings.showwarning = shown


def count_waits(case: Case, device: str = 'cpu') -> Counter[str]:
    """Calls a case twice and counts, in the second call, where our code makes the host wait for the device.

    Args:
        case: What to call.
        device: 'cuda': what ``torch.cuda.set_sync_debug_mode`` reports. 'cpu': what :class:`HostReads` follows.

    Returns:
        Place -> how often.
    """
    if device.startswith('cuda'):
        places: Counter[str] = Counter()
        case()
        with _cuda_waits(places):
            case()
        return places
    with HostReads() as reads:
        case()  # what is handed to the next call is followed, too
        reads.places.clear()
        case()
    return reads.places


def syncs(
    filename: str,
    device: str | None = None,
    batch_size: int | None = None,
    image_size: tuple[int, int] | None = None,
    boxes_per_image: int = 10,
    amp: str | None = None,
    **_: Any,
) -> list[Row]:
    """The places in a step of a config, and in the same one with ratios one step late.

    Args:
        filename: A distillation config.
        device: 'cpu' or 'cuda'; CUDA if there is one.
        batch_size: N; the config's if None.
        image_size: (height, width); what the config's transforms give if None.
        boxes_per_image: Of a detector.
        amp: None, 'float16' or 'bfloat16'.

    Returns:
        A row with the sum for each case, followed by one for each place.
    """
    device = device or get_device()
    cfg = load_config(filename)
    size = image_size or default_image_size(cfg)
    data = make_batch(cfg, batch_size or cfg.train_dataloader.batch_size, size, boxes_per_image)
    rows = []
    for late in (False, True):
        for hook in mask_ratio_hooks(cfg):
            if hook['type'].endswith(('CKAMaskRatioHook', 'CosineMaskRatioHook')):
                hook.one_step_late = late
        model, optimizer = build_step(cfg, device, amp)
        if hasattr(model, '_guard'):
            model._guard.defer = True  # as on CUDA
        places = count_waits(lambda m=model, o=optimizer: m.train_step(data, o), device)
        case = 'ratios one step late' if late else 'this config'
        target = '' if late else '<= 1'
        rows.append(Row('syncs', f'{case}: waits in a step', count=places.total(), target=target))
        rows += [Row('syncs', f'  {place}', count=n) for place, n in sorted(places.items())]
    return rows
