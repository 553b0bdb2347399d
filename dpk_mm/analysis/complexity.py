"""What a distillation costs: parameters, FLOPs and activations of teacher, student and transformation modules.

mmengine's analyzers do the counting. They trace one forward pass on the CPU, batch 1, in eval mode:

- FLOPs: one multiply-add is one FLOP, as in the paper (A.9: ResNet-34 has 3.6 G). Convolutions, linear layers, matrix
  products, attention, normalisation, interpolation and average pooling are counted; operators
  for which the library has no count are listed by name.
- Activations: elements of the outputs of convolutions, linear layers, matrix products and attention. In float32 each
  takes four bytes; that is a lower bound of what training keeps, since outputs of other operators are not in it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from mmengine.analysis import ActivationAnalyzer, FlopAnalyzer
from mmengine.analysis.jit_handles import bmm_flop_jit, generic_activation_jit, get_shape
from mmengine.config import Config
from mmengine.structures import InstanceData
from mmpretrain.models import BaseClassifier
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ..checkpoint.student_config import is_distillation
from ..errors import UsageError, without_period
from ..models.losses import DPKLoss
from ..modules import FixedMaskRatio, count_parameters
from .input_size import input_size
from .loading import build_model, read_config

BYTES_PER_ACTIVATION = 4


@dataclass(frozen=True)
class Complexity:
    """One row: a network, a part of one, or a transformation module.

    Attributes:
        name: Such as ``teacher``, ``teacher.backbone``, ``student``, ``loss_dpk.P4``.
        parameters: All of its parameters, trainable or not; buffers are not counted.
        flops: Multiply-adds for one image.
        activations: Elements of the outputs of convolutions, linear layers, products and attention.
        input_shapes: Of the tensors that go in; empty for a part of a network.
        not_counted: Operator -> how often it ran, for those whose FLOPs are not in ``flops``.
    """

    name: str
    parameters: int
    flops: int
    activations: int
    input_shapes: list[list[int]] = field(default_factory=list)
    not_counted: dict[str, int] = field(default_factory=dict)

    @property
    def activation_bytes(self) -> int:
        """Memory of the activations in float32."""
        return self.activations * BYTES_PER_ACTIVATION


@dataclass(frozen=True)
class ComplexityReport:
    """All rows of a config.

    Attributes:
        image_shape: (height, width) of the image.
        mask_ratio: Share of the tokens that the teacher gives.
        proposals: Boxes of a two-stage detector's second stage; None for other models.
        rows: Teacher and student with their parts, then the transformation modules; of a config without
            distillation the model.
    """

    image_shape: tuple[int, int]
    mask_ratio: float
    proposals: int | None
    rows: list[Complexity]


# Operators for which mmengine has no handle.


def _attention_flops(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """The two products of attention, ``Q K'`` and that with V; the softmax is not counted anywhere."""
    query, key, value = (get_shape(tensor) for tensor in inputs[:3])
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _baddbmm_flops(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    return bmm_flop_jit(list(inputs[1:3]), list(outputs))


_FLOPS = {
    'aten::scaled_dot_product_attention': _attention_flops,
    'aten::baddbmm': _baddbmm_flops,
}
_ACTIVATIONS = dict.fromkeys(_FLOPS, generic_activation_jit())


def count(name: str, module: nn.Module, inputs: Sequence[Tensor]) -> Complexity:
    """Counts one module.

    Args:
        name: Name of the row.
        module: Run twice without gradient, once for each analyzer; its mode stays.
        inputs: The arguments of its forward.
    """
    return _rows(name, module, inputs)[0]


def _rows(
    name: str, module: nn.Module, inputs: Sequence[Tensor], parts_of: str | None = None
) -> list[Complexity]:
    """The row of a module and, with ``parts_of``, those of the children of that submodule."""
    analyzers = []
    with torch.no_grad(), _plain_attention():
        for kind, handles in ((FlopAnalyzer, _FLOPS), (ActivationAnalyzer, _ACTIVATIONS)):
            analyzer = kind(module, tuple(inputs)).set_op_handle(**handles)
            analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            analyzer.tracer_warnings('none')
            analyzer.total()  # traces now, inside of the contexts
            analyzers.append(analyzer)
    flops, activations = analyzers

    def row(row_name: str, path: str, shapes: list[list[int]]) -> Complexity:
        part = module.get_submodule(path)
        return Complexity(
            name=row_name,
            parameters=count_parameters(part, trainable_only=False),
            flops=int(flops.total(path)),
            activations=int(activations.total(path)),
            input_shapes=shapes,
            not_counted={op: int(n) for op, n in sorted(flops.unsupported_ops(path).items())},
        )

    rows = [row(name, '', [list(tensor.shape) for tensor in inputs])]
    if parts_of is not None:
        parts = [
            row(f'{name}.{child}', f'{parts_of}.{child}', [])
            for child, _ in module.get_submodule(parts_of).named_children()
        ]
        parts = [part for part in parts if part.parameters or part.flops]
        rows += parts if len(parts) > 1 else []
    return rows


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Keeps torch from running ``nn.MultiheadAttention`` as one operator, for which there is no count."""
    backend = getattr(torch.backends, 'mha', None)  # not in every release
    before = backend.get_fastpath_enabled() if backend else None
    if backend:
        backend.set_fastpath_enabled(False)
    try:
        yield
    finally:
        if backend:
            backend.set_fastpath_enabled(before)


# The networks.


class _Network(nn.Module):
    """A detector or classifier as a function of the image, up to the outputs of its heads."""

    def __init__(self, model: Any, image_shape: tuple[int, int]) -> None:
        super().__init__()
        self.model = model
        self.samples = [_data_sample(model, image_shape)]
        self.proposals = _num_proposals(model)

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        model: Any = self.model
        if isinstance(model, BaseClassifier):
            out = model(inputs, mode='tensor')
        elif self.proposals is None:
            out = model(inputs, self.samples, mode='tensor')
        else:
            # Untrained, the first stage gives a random number of proposals; the second stage costs the
            # same for each of them, wherever it is.
            features = model.extract_feat(inputs)
            boxes = inputs.new_tensor([[0.0, 0.0, 32.0, 32.0]]).expand(self.proposals, 4)
            proposals = [InstanceData(bboxes=boxes)]
            out = (
                model.rpn_head(features),
                model.roi_head.forward(features, proposals, self.samples),
            )
        return tuple(_tensors(out))


def _num_proposals(model: Any) -> int | None:
    """How many boxes a two-stage detector keeps for its second stage; None for other models."""
    if isinstance(model, BaseClassifier):
        return None
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

    if not (
        hasattr(model, 'roi_head') and isinstance(getattr(model, 'rpn_head', None), BaseDenseHead)
    ):
        return None
    return int(model.test_cfg.rpn.max_per_img)


def _data_sample(model: nn.Module, image_shape: tuple[int, int]) -> Any:
    """Ground truth of one image, for heads that need it: one box, or class 0."""
    if isinstance(model, BaseClassifier):
        return DataSample().set_gt_label(0)
    from mmdet.structures import DetDataSample

    keys = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')
    sample = DetDataSample(metainfo=dict(dict.fromkeys(keys, image_shape), scale_factor=(1.0, 1.0)))
    height, width = image_shape
    box = torch.tensor([[0.0, 0.0, width / 2, height / 2]])
    sample.gt_instances = InstanceData(bboxes=box, labels=torch.zeros(1, dtype=torch.long))
    return sample


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


# The transformation modules.


class _Call(nn.Module):
    """A module with all its arguments bound but the tensors."""

    def __init__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.module = module
        self.arguments: dict[Any, Any] = dict(enumerate(args))
        self.keywords = kwargs
        self.tensor_keys: list[Any] = [
            key
            for key, value in [*self.arguments.items(), *kwargs.items()]
            if isinstance(value, Tensor)
        ]

    @property
    def tensors(self) -> list[Tensor]:
        bound = {**self.arguments, **self.keywords}
        return [bound[place] for place in self.tensor_keys]

    def forward(self, *tensors: Tensor) -> Tensor:
        given = dict(zip(self.tensor_keys, tensors, strict=True))
        args = [given.get(place, value) for place, value in self.arguments.items()]
        kwargs = {key: given.get(key, value) for key, value in self.keywords.items()}
        return self.module(*args, **kwargs)


def _transform_calls(
    algorithm: Any,
    networks: Mapping[str, _Network],
    images: Mapping[str, Tensor],
    mask_ratio: float,
) -> dict[str, _Call]:
    """Runs student, teacher and losses once, and keeps the arguments of every transformation module.

    So features and masks are those of training, with the recorders, stages and masks of the config.
    """
    distiller = algorithm.distiller
    calls: dict[str, _Call] = {}
    with torch.no_grad(), distiller.teacher_recorders, distiller.student_recorders:
        for name, network in networks.items():
            network(images[name])
    if hasattr(algorithm, 'restore_teacher_maps'):
        algorithm.restore_teacher_maps(images['student'].shape[-2:])
    for loss_name, loss in distiller.distill_losses.items():
        if not isinstance(loss, DPKLoss):
            continue
        arguments = {
            key: networks['student'].samples
            if key == 'data_samples'
            else distiller.get_record(**record)
            for key, record in distiller.loss_forward_mappings[loss_name].items()
        }
        loss.mask_ratio = FixedMaskRatio(mask_ratio)
        loss.criterion = None  # nothing after the transformation modules is counted
        hooks = [
            transform.register_forward_pre_hook(
                functools.partial(_keep, calls, f'{loss_name}.{stage}'), with_kwargs=True
            )
            for stage, transform in loss.transforms.items()
        ]
        with torch.no_grad():
            loss(**arguments)
        for hook in hooks:
            hook.remove()
    return calls


def _keep(
    calls: dict[str, _Call], name: str, module: nn.Module, args: tuple, kwargs: dict[str, Any]
) -> None:
    calls[name] = _Call(module, args, kwargs)


# The whole.


def measure_complexity(
    config: str | os.PathLike[str] | Config,
    image_shape: tuple[int, int] | None = None,
    mask_ratio: float = 0.5,
) -> ComplexityReport:
    """Counts teacher, student and every transformation module of a config.

    Nothing is trained, loaded or downloaded; all weights are random.

    Args:
        config: Of a distillation, or of a plain mmdet or mmpretrain training; a file, or the config.
        image_shape: (height, width). If None, that of the config's test pipeline, padded as the data
            preprocessor pads it.
        mask_ratio: pi in [0, 1] for all stages.


    Raises:
        UsageError: If the image's size is neither given nor found, or it or the ratio is impossible.
    """
    if not 0 <= mask_ratio <= 1:
        raise UsageError(f'--mask-ratio must be in [0, 1], but is {mask_ratio}.')
    if image_shape is not None and min(image_shape) < 1:
        raise UsageError(f'--shape must be two sizes of at least 1, but is {image_shape}.')
    cfg = read_config(config, with_teacher=False)
    model = build_model(cfg)
    student = model.student if is_distillation(cfg) else model
    if image_shape is None:
        divisor = getattr(student.data_preprocessor, 'pad_size_divisor', 1) or 1
        height, width = (-(-side // divisor) * divisor for side in input_size(cfg))
        image_shape = (height, width)
    convolution = next((m for m in student.modules() if isinstance(m, nn.Conv2d)), None)
    image = torch.zeros(1, getattr(convolution, 'in_channels', 3), *image_shape)

    if not is_distillation(cfg):
        network = _Network(model, image_shape)
        rows = _rows('model', network, [image], parts_of='model')
        return ComplexityReport(image_shape, mask_ratio, network.proposals, rows)

    # mmrazor's own algorithms have no teacher_input_size
    given = getattr(model, 'input_of_teacher', nn.Identity())(image)
    images = dict(student=image, teacher=given)
    networks = {
        name: _Network(getattr(model, name), tuple(images[name].shape[-2:])) for name in images
    }
    rows = []
    for name in ('teacher', 'student'):
        rows += _rows(name, networks[name], [images[name]], parts_of='model')
    try:
        calls = _transform_calls(model, networks, images, mask_ratio)
    except ValueError as error:
        raise UsageError(
            f'an image of {image_shape[0]}x{image_shape[1]} does not suit the transformation modules: '
            f'{without_period(error)}.'
        ) from error
    transforms = [count(name, call, call.tensors) for name, call in calls.items()]
    if len(transforms) > 1:
        transforms.append(_sum('all transformations', transforms))
    return ComplexityReport(
        image_shape, mask_ratio, networks['student'].proposals, rows + transforms
    )


def _sum(name: str, rows: Sequence[Complexity]) -> Complexity:
    operators = sorted({op for row in rows for op in row.not_counted})
    return Complexity(
        name=name,
        parameters=sum(row.parameters for row in rows),
        flops=sum(row.flops for row in rows),
        activations=sum(row.activations for row in rows),
        not_counted={op: sum(row.not_counted.get(op, 0) for row in rows) for op in operators},
    )
