"""One optimizer for the student, another for the transformation modules, one backward pass for both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmengine.config import ConfigDict
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict, build_optim_wrapper
from mmrazor.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import Tensor, nn

from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.errors import UsageError

# Settings of the one backward pass; they cannot differ between the parts.
SHARED = ('type', 'accumulative_counts', 'loss_scale', 'dtype')
# What may stand beside the parts, as a default for each of them.
COMMON = (*SHARED, 'clip_grad')
# The ways to go backward and to step that are known here.
_STEPS = [(kind.backward, kind.step) for kind in (OptimWrapper, AmpOptimWrapper)]


class JointOptimWrapper(OptimWrapperDict):
    """Several optimizer wrappers that are updated together, from the gradients of one loss.

    mmengine's ``OptimWrapperDict`` leaves ``update_params`` to the model, which DistributedDataParallel's
    ``train_step`` never asks. Here it is one backward pass, then a step of each optimizer, so that the train steps of
    mmengine work as they are, with and without DistributedDataParallel. Learning rates, schedulers (a dict of lists by
    the names of the parts), checkpoints and ``auto_scale_lr`` are ``OptimWrapperDict``'s.

    With ``AmpOptimWrapper`` all parts share one gradient scaler, which is updated once a step; as in PyTorch's recipe
    for several optimizers, each optimizer leaves out its own step where its gradients are infinite. Gradients
    are clipped for each part by itself and logged as ``<part>.grad_norm``.

    Args:
        **optim_wrappers: The wrapper of each part.

    Raises:
        UsageError: If the wrappers differ in type or ``accumulative_counts``, or step in another way than
            ``OptimWrapper`` or ``AmpOptimWrapper``.
    """

    def __init__(self, **optim_wrappers: OptimWrapper) -> None:
        super().__init__(**optim_wrappers)
        names = list(optim_wrappers)
        self._left_out: set[str] = set()
        self._first = optim_wrappers[names[0]]
        for name, wrapper in optim_wrappers.items():
            if (type(wrapper).backward, type(wrapper).step) not in _STEPS:
                raise UsageError(
                    f'optim_wrapper.{name}.type is {type(wrapper).__name__}, but several optimizers are updated '
                    'together only in the way of OptimWrapper or AmpOptimWrapper.'
                )
            for what, own, first in (
                ('type', type(wrapper).__name__, type(self._first).__name__),
                (
                    'accumulative_counts',
                    wrapper._accumulative_counts,
                    self._first._accumulative_counts,
                ),
            ):
                if own != first:
                    raise UsageError(_differ(what, names[0], first, name, own))
            if isinstance(wrapper, AmpOptimWrapper):
                wrapper.loss_scaler = self._first.loss_scaler
            if wrapper.clip_grad_kwargs:
                wrapper.grad_name = f'{name}.{wrapper.grad_name}'

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Mixed precision, and no synchronisation of gradients that are only accumulated."""
        with self._first.optim_context(model):
            yield

    def update_params(
        self,
        loss: Tensor,
        step_kwargs: dict | None = None,
        zero_kwargs: dict | None = None,
    ) -> None:
        """One backward pass, and where the accumulation is complete a step of every optimizer.

        Args:
            loss: The total loss, a scalar.
            step_kwargs: Of ``Optimizer.step``.
            zero_kwargs: Of ``Optimizer.zero_grad``.
        """
        self.backward(self.scale_loss(loss))
        if self.should_update():
            self.step(**(step_kwargs or {}))
            self.zero_grad(**(zero_kwargs or {}))

    def scale_loss(self, loss: Tensor) -> Tensor:
        """The loss over the number of batches whose gradients are accumulated."""
        return self._first.scale_loss(loss)

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """The one backward pass; every part counts it."""
        self._first.backward(loss, **kwargs)
        for wrapper in self.values():
            wrapper._inner_count = self._first._inner_count

    def leave_out(self, parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        """Parts that train these parameters only make no step any more, and have no learning rate in the log.

        Returns:
            Those of the parameters that are in a part with others.
        """
        unused = {id(p): p for p in parameters}
        for name, wrapper in self.items():
            own = [id(p) for group in wrapper.optimizer.param_groups for p in group['params']]
            if all(key in unused for key in own):
                self._left_out.add(name)
                for key in own:
                    unused.pop(key, None)
        return list(unused.values())

    def _stepping(self) -> list[OptimWrapper]:
        return [wrapper for name, wrapper in self.items() if name not in self._left_out]

    def get_lr(self) -> dict[str, list[float]]:
        """The learning rates of the parts that step, by ``<part>.lr``."""
        return self._of_stepping(super().get_lr())

    def get_momentum(self) -> dict[str, list[float]]:
        """The momenta of the parts that step, by ``<part>.momentum``."""
        return self._of_stepping(super().get_momentum())

    def _of_stepping(self, values: dict[str, list[float]]) -> dict[str, list[float]]:
        return {k: v for k, v in values.items() if k.split('.')[0] not in self._left_out}

    def step(self, **kwargs: Any) -> None:
        """Clips and steps each optimizer."""
        if not isinstance(self._first, AmpOptimWrapper):
            for wrapper in self._stepping():
                wrapper.step(**kwargs)
            return
        # AmpOptimWrapper.step would change the scale between two optimizers whose gradients carry the same one.
        scaler = self._first.loss_scaler
        # All before the first step: a skipped batch drops the gradients of every part there (NonFiniteGuard), and the
        # scaler fails for an optimizer none of whose gradients it has seen.
        for wrapper in self._stepping():
            scaler.unscale_(wrapper.optimizer)
            if wrapper.clip_grad_kwargs:
                wrapper._clip_grad()
        for wrapper in self._stepping():
            scaler.step(wrapper.optimizer, **kwargs)
        scaler.update(self._first._scale_update_param)

    def zero_grad(self, **kwargs: Any) -> None:
        """Drops the gradients of every part."""
        for wrapper in self.values():
            wrapper.zero_grad(**kwargs)

    def should_update(self) -> bool:
        """Whether the accumulation is complete."""
        return self._first.should_update()

    def should_sync(self) -> bool:
        """Whether the next backward pass completes the accumulation."""
        return self._first.should_sync()

    @property
    def inner_count(self) -> int:
        """Backward passes so far."""
        return self._first.inner_count

    @property
    def loss_scaler(self) -> Any:
        """The gradient scaler that all parts share; None without mixed precision."""
        return getattr(self._first, 'loss_scaler', None)

    def initialize_count_status(self, model: nn.Module, init_counts: int, max_counts: int) -> None:
        """Tells every part where the training starts and ends; the Runner calls it."""
        for wrapper in self.values():
            wrapper.initialize_count_status(model, init_counts, max_counts)

    def load_state_dict(self, state_dict: dict) -> None:
        """Restores every part.

        Raises:
            UsageError: If the checkpoint's optimizers are not these parts.
        """
        if set(state_dict) != set(self.keys()):
            found = 'one optimizer' if 'param_groups' in state_dict else ', '.join(state_dict)
            raise UsageError(
                f'optim_wrapper: the checkpoint was made with {found}, the config has {", ".join(self.keys())}: '
                "resume with the checkpoint's optim_wrapper, or start from its weights only "
                '(load_from without resume).'
            )
        super().load_state_dict(state_dict)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class DPKOptimWrapperConstructor:
    """Builds one optimizer for each part of the algorithm, updated together.

    The config is that of mmrazor's ``SeparateOptimWrapperConstructor``, and ``param_scheduler`` may be a dict of lists
    by the same names::

        optim_wrapper = dict(
            _delete_=True,
            constructor='mmrazor.DPKOptimWrapperConstructor',
            accumulative_counts=2,
            architecture=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
            distiller=dict(
                optimizer=dict(type='AdamW', lr=1e-4, weight_decay=1e-4),
                paramwise_cfg=dict(flat_decay_mult=0.0),
            ),
        )

    Args:
        optim_wrapper_cfg: For each part, a child module of the algorithm (``architecture``, ``distiller``), its
            ``optimizer`` and, if wanted, ``paramwise_cfg``, ``clip_grad`` and a ``constructor`` of its own, such as
            ``'mmpretrain.LearningRateDecayOptimWrapperConstructor'`` for the student. What stands beside the parts
            (``type``, ``accumulative_counts``, ``loss_scale``, ``dtype``, ``clip_grad``) is the default of each.
        paramwise_cfg: Not accepted here; it belongs to a part.

    Raises:
        UsageError: (a ValueError) Here if the config is not of this form; on the call if a part is unknown or has no
            parameters, or a trainable parameter is in no part or in two.
    """

    def __init__(
        self, optim_wrapper_cfg: Mapping[str, Any], paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        if paramwise_cfg is not None:
            raise UsageError(
                'optim_wrapper.paramwise_cfg: with DPKOptimWrapperConstructor it belongs to a part, such as '
                'optim_wrapper.distiller.paramwise_cfg.'
            )
        if 'optimizer' in optim_wrapper_cfg:
            raise UsageError(
                'optim_wrapper.optimizer: with DPKOptimWrapperConstructor each part has its own, such as '
                'optim_wrapper.architecture.optimizer; where the key comes from a base config, put _delete_=True into '
                'optim_wrapper.'
            )
        common = {key: optim_wrapper_cfg[key] for key in COMMON if key in optim_wrapper_cfg}
        self.parts: dict[str, dict[str, Any]] = {}
        for name, cfg in optim_wrapper_cfg.items():
            if name in common:
                continue
            if not isinstance(cfg, Mapping) or 'optimizer' not in cfg:
                raise UsageError(
                    f'optim_wrapper.{name} is {cfg!r}: a part (a dict with optimizer) or one of '
                    f'{", ".join(COMMON)} was expected.'
                )
            self.parts[name] = {**common, **cfg}
        if not self.parts:
            raise UsageError(
                'optim_wrapper names no part; give architecture=dict(optimizer=...) and '
                'distiller=dict(optimizer=...).'
            )
        first, *others = self.parts
        for name in others:
            for key in SHARED:
                a, b = self.parts[first].get(key), self.parts[name].get(key)
                if a != b:
                    raise UsageError(_differ(key, first, a, name, b))

    def __call__(self, model: nn.Module) -> JointOptimWrapper:
        """Builds the wrappers for a model, which may be in a DistributedDataParallel."""
        model = unwrap(model)
        self._check_coverage(model)
        wrappers = {}
        for name, cfg in self.parts.items():
            # OptimWrapper takes ``type`` out of clip_grad, which the parts may share
            cfg = {
                key: dict(value) if key == 'clip_grad' and value else value
                for key, value in cfg.items()
            }
            # the part's own constructor sees the part alone, with the names that it knows
            wrapper = build_optim_wrapper(getattr(model, name), ConfigDict(cfg))
            if not isinstance(wrapper, OptimWrapper):
                raise UsageError(
                    f'optim_wrapper.{name}.constructor is {cfg["constructor"]!r}, which makes several optimizers, '
                    'but a part has one; name another constructor, or leave the key out.'
                )
            wrappers[name] = wrapper
        return JointOptimWrapper(**wrappers)

    def _check_coverage(self, model: nn.Module) -> None:
        children = {
            name: child
            for name, child in model.named_children()
            if any(p.requires_grad for p in child.parameters())
        }
        owner: dict[int, str] = {}
        for name in self.parts:
            if name not in children:
                state = (
                    'has no trainable parameters'
                    if name in dict(model.named_children())
                    else 'is unknown'
                )
                raise UsageError(
                    f'optim_wrapper.{name}: this part of the {type(model).__name__} {state}; take it out of '
                    f'optim_wrapper and param_scheduler. Parts to train: {", ".join(children)}.'
                )
            for param in children[name].parameters():
                if owner.setdefault(id(param), name) != name:
                    raise UsageError(
                        f'optim_wrapper: {owner[id(param)]} and {name} share parameters; two optimizers cannot own one.'
                    )
        for name, param in model.named_parameters():
            if param.requires_grad and id(param) not in owner:
                part = name.split('.')[0]
                raise UsageError(
                    f'optim_wrapper: {name} would not be trained, since {", ".join(self.parts)} do not hold it; add '
                    f'optim_wrapper.{part}=dict(optimizer=...).'
                )


def _differ(key: str, first: str, a: Any, second: str, b: Any) -> str:
    return (
        f'optim_wrapper.{first}.{key} is {a!r} and optim_wrapper.{second}.{key} is {b!r}: the parts share one backward '
        f'pass, so both must be the same; set it once, as optim_wrapper.{key}.'
    )
