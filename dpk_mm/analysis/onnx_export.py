"""Writes a student as an ONNX file, and compares what it computes with the model.

A classifier is exported up to its logits. Of a detector the raw outputs of the dense head are exported, before anything
is decoded: mmdet's ``predict`` builds Python objects for each image and cannot be traced.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..checkpoint.student import check_out_file
from ..errors import UsageError
from ..fileio import replacing
from .input_size import input_size
from .loading import build_student, read_config, scope_of

OPSET = 17
#: How far the file's outputs may be from the model's: a part of the greatest value of each output.
TOLERANCE = 1e-3
_INPUT = 'pixels'
_NEEDED = ('onnx', 'onnxruntime')


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        shape: Of an image: (channels, height, width).
        outputs: The names of the outputs and the shapes for one image.
        difference: The greatest difference to the model, as a part of the greatest value of that output.
        note: What is not in the file; empty if nothing is missing.
    """

    shape: tuple[int, int, int]
    outputs: dict[str, tuple[int, ...]]
    difference: float
    note: str


def export_onnx(
    config: str | os.PathLike[str] | Config,
    checkpoint: str | os.PathLike[str],
    out_file: str | os.PathLike[str],
    shape: tuple[int, int] | None = None,
    force: bool = False,
    averaged: bool = True,
) -> Exported:
    """Exports the student of a checkpoint.

    The input ``pixels`` is ``[N, C, H, W]``, float32, 0 to 255, in the order of the channels in which the test pipeline
    gives images (BGR for files); the normalisation is in the file. N is free, H and W are fixed. The file is run with
    onnxruntime on two random images and kept only if it computes what the model does, within :data:`TOLERANCE`.

    Args:
        config: Of the distillation, or of the student alone.
        checkpoint: What the training wrote, or a student alone.
        out_file: The file to write.
        shape: (height, width); by default that of the test pipeline, made divisible as the data preprocessor pads it.
        force: Whether to replace ``out_file`` if it exists.
        averaged: Which weights are written where the file holds averaged (EMA) and raw ones.

    Raises:
        UsageError: If onnx or onnxruntime is not installed, the file cannot be written, the checkpoint does not fit,
            the model cannot be exported, or the file computes something else.
        FileNotFoundError: If a file does not exist.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(
            f'--onnx needs {" and ".join(missing)}: pip install -r requirements/onnx.txt.'
        )
    if Path(out_file).suffix != '.onnx':
        raise UsageError(f'{out_file}: the name of an ONNX file, ending in .onnx, was expected.')
    check_out_file(out_file, checkpoint, force)
    cfg = read_config(config, with_teacher=False)
    model = build_student(cfg, checkpoint, averaged)
    with scope_of(cfg):
        whole = _Traced(model)
        height, width = _shape(cfg, model, shape)
        channels = _channels(model)
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (2, channels, height, width), generator=generator).float()
        with torch.no_grad():
            wanted = _flat(whole.raw(_preprocessed(model, pixels)))
        names = whole.names(len(wanted))
        with replacing(out_file) as temporary:
            _write(whole, pixels, names, temporary)
            difference = _compare(temporary, pixels, wanted, names)
    shapes = {n: (1, *w.shape[1:]) for n, w in zip(names, wanted, strict=True)}
    return Exported((channels, height, width), shapes, difference, whole.note)


class _Traced(nn.Module):
    """From pixels to a flat tuple of outputs.

    Raises:
        UsageError: If the model is neither a classifier nor a detector with a dense head.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        from mmdet.models.detectors import SingleStageDetector, TwoStageDetector
        from mmpretrain.models import BaseClassifier

        self.model = model
        self.note = ''
        self._names: list[str] = []
        if isinstance(model, BaseClassifier):
            self.raw = lambda x: model(x, mode='tensor')
            self._names = ['logits']
        elif isinstance(model, SingleStageDetector):
            self.raw = lambda x: model.bbox_head(model.extract_feat(x))
            self._names = _head_outputs(model.bbox_head)
            self.note = 'decoding of the boxes and NMS are not in the file'
        elif isinstance(model, TwoStageDetector):
            self.raw = self._first_stage
            rpn = (
                [f'rpn_{name}' for name in _head_outputs(model.rpn_head)] if model.with_rpn else []
            )
            self._names = ['neck', *rpn]
            self.note = (
                'of this two-stage detector the neck and the RPN are in the file; proposals, RoI head, decoding of '
                'the boxes and NMS are not'
            )
        else:
            raise UsageError(
                f'--onnx: a {type(model).__name__} cannot be exported: of classifiers the logits can, and of detectors '
                'with one or two stages the raw outputs of their dense heads; export without --onnx.'
            )
        preprocessor = model.data_preprocessor
        self.flips = any(getattr(preprocessor, k, False) for k in ('_channel_conversion', 'to_rgb'))
        self.normalises = getattr(preprocessor, '_enable_normalize', False)
        if self.normalises:
            self.register_buffer('mean', preprocessor.mean.clone().view(1, -1, 1, 1))
            self.register_buffer('std', preprocessor.std.clone().view(1, -1, 1, 1))
        self.eval()

    def _first_stage(self, x: Tensor) -> Any:
        features = self.model.extract_feat(x)
        return [features, *(self.model.rpn_head(features) if self.model.with_rpn else ())]

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """``[N, C, H, W]`` -> all outputs."""
        x = pixels
        if self.flips and x.shape[1] == 3:
            x = x[:, [2, 1, 0]]
        if self.normalises:
            x = (x - self.mean) / self.std
        return tuple(_flat(self.raw(x)))

    def names(self, count: int) -> list[str]:
        """A name for each output: that of its kind, and of several of a kind the level."""
        kinds = len(self._names)
        if count == kinds:
            return self._names
        if kinds and count % kinds == 0:
            return [f'{name}_{level}' for name in self._names for level in range(count // kinds)]
        return [f'output_{i}' for i in range(count)]


def _head_outputs(head: nn.Module) -> list[str]:
    """What a dense head gives: the first arguments of its loss, as mmdet has it."""
    found = []
    for name, parameter in inspect.signature(head.loss_by_feat).parameters.items():
        if name.startswith('batch_') or parameter.default is not inspect.Parameter.empty:
            break
        found.append(name)
    return found


def _flat(value: Any) -> list[Tensor]:
    return list(_tensors(value))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _channels(model: nn.Module) -> int:
    mean = getattr(model.data_preprocessor, 'mean', None)
    if isinstance(mean, Tensor):
        return mean.numel()
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    return 1 if first is not None and first.in_channels == 1 else 3


def _shape(cfg: Config, model: nn.Module, shape: tuple[int, int] | None) -> tuple[int, int]:
    divisor = getattr(model.data_preprocessor, 'pad_size_divisor', 1) or 1
    if shape is None:
        height, width = (-(-side // divisor) * divisor for side in input_size(cfg))
        return height, width
    if min(shape) < 1 or any(side % divisor for side in shape):
        raise UsageError(
            f'--shape {shape[0]} {shape[1]}: two sizes divisible by {divisor} were expected, to which the data '
            'preprocessor pads images.'
        )
    return shape


def _preprocessed(model: nn.Module, pixels: Tensor) -> Tensor:
    """As the model's own data preprocessor does it."""
    return model.data_preprocessor({'inputs': list(pixels)}, False)['inputs']


def _write(whole: _Traced, pixels: Tensor, names: Sequence[str], file: Path) -> None:
    axes = {name: {0: 'N'} for name in (_INPUT, *names)}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter('ignore')  # of the tracer, on sizes that are fixed here
            torch.onnx.export(
                whole,
                (pixels,),
                str(file),
                input_names=[_INPUT],
                output_names=list(names),
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as error:
        raise UsageError(
            f'--onnx: {type(whole.model).__name__} cannot be exported ({str(error).strip().splitlines()[0]}); '
            'export without --onnx.'
        ) from error


def _compare(file: Path, pixels: Tensor, wanted: Sequence[Tensor], names: Sequence[str]) -> float:
    """The greatest relative difference, on the two images at once and on one alone."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    worst = 0.0
    for count in (2, 1):
        found = session.run(list(names), {_INPUT: pixels[:count].numpy()})
        for name, value, expected in zip(names, found, wanted, strict=True):
            expected = expected[:count].numpy()
            if value.shape != expected.shape:
                raise UsageError(
                    f'--onnx: the file gives {name} of {list(value.shape)} and the model of {list(expected.shape)} for '
                    f'{count} images, so it is not kept; export without --onnx.'
                )
            scale = max(float(np.abs(expected).max()), 1e-12)
            worst = max(worst, float(np.abs(value - expected).max()) / scale)
    if not worst <= TOLERANCE:
        raise UsageError(
            f'--onnx: the outputs of the file differ from those of the model by {worst:.1e} of the greatest value, '
            f'more than {TOLERANCE:g}, so it is not kept; export without --onnx.'
        )
    return worst
