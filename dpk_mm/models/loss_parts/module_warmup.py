"""A start in which transformation modules learn, and send nothing to the student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from torch import Tensor, nn

from ...errors import UsageError
from ...functional.feature_error import error_and_variance
from ...functional.masking import TokenMask, unmasked
from ...modules.hybrid_transform import FeatureTransform

_UNKNOWN = -1.0


class ModuleWarmup(nn.Module):
    """Says for each stage whether the student's feature enters its module detached.

    A new encoder-decoder sends the student gradients of its own errors; here it learns first, from the student as it
    is, while the student learns from its own losses and from the others of the config.

    The position comes from the loop: ``WarmupHook``, which ``tools/train.py`` puts into every run, sets ``iteration``.

    Args:
        stages: Names of the stages.
        iterations: Iterations of the warm-up, at least 0; with ``error`` at most so many.
        error: The warm-up of a stage ends when the hybrid feature made of the teacher's tokens alone has this error, as
            a share of the teacher's variance (:func:`~dpk_mm.functional.feature_error.error_and_variance`), or less:
            what is left is the student's part then. None for a fixed number of iterations.
        interval: Iterations between two measurements of the error.
        momentum: Of the average over measurements, in [0, 1).

    Attributes:
        iteration: Iterations that are complete, None where nothing has said it.
        errors: Average of the error of each stage; -1 where none was measured.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        stages: Sequence[str],
        iterations: int,
        error: float | None = None,
        interval: int = 20,
        momentum: float = 0.5,
    ) -> None:
        super().__init__()
        for name, value, least in (('iterations', iterations, 0), ('interval', interval, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f'{name} must be a whole number >= {least}, but is {value!r}.')
        if error is not None and not (_is_number(error) and 0 < error < 1):
            raise ValueError(f'error must be in (0, 1), but is {error!r}; use 0.3.')
        if not (_is_number(momentum) and 0 <= momentum < 1):
            raise ValueError(f'momentum must be in [0, 1), but is {momentum!r}.')
        self.stages = tuple(stages)
        self.iterations = iterations
        self.limit = error
        self.interval = interval
        self.momentum = momentum
        self.iteration: int | None = None
        self._said: set[str] = set()
        # In the checkpoint: a resumed run goes on where it was. What was not measured is -1, since a NaN in a
        # checkpoint is taken for a training that went wrong.
        self.register_buffer('errors', torch.full((len(self.stages),), _UNKNOWN))
        self.register_buffer('ended', torch.zeros(len(self.stages), dtype=torch.bool))

    @classmethod
    def from_config(
        cls, stages: Mapping[str, FeatureTransform], cfg: int | Mapping[str, Any]
    ) -> ModuleWarmup:
        """Builds one from ``module_warmup`` of a loss: the iterations, or the arguments.

        Raises:
            ValueError: If an argument is unknown or does not fit, or a stage has no tokens of the teacher whose error
                could be measured; the sentence starts with ``module_warmup``.
        """
        arguments = dict(cfg) if isinstance(cfg, Mapping) else dict(iterations=cfg)
        known = ('iterations', 'error', 'interval', 'momentum')
        unknown = [key for key in arguments if key not in known]
        if unknown or 'iterations' not in arguments:
            what = f'has no argument {unknown[0]!r}' if unknown else 'needs iterations'
            raise ValueError(f'module_warmup {what}; it has {", ".join(known)}.')
        try:
            warmup = cls(list(stages), **arguments)
        except ValueError as error:
            raise ValueError(f'module_warmup.{error}') from error
        for key in ('interval', 'momentum'):
            if key in arguments and warmup.limit is None:
                raise ValueError(
                    f'module_warmup.{key} is of the measured error, which nothing asks for without error; set '
                    f'error=0.3, say, or leave {key} out.'
                )
        for name, transform in stages.items():
            if warmup.limit is not None and getattr(transform, 'prior', None) != 'teacher':
                raise ValueError(
                    f"module_warmup.error is the error of the teacher's own tokens, which stage {name} does not have; "
                    "leave error out, or set prior='teacher'."
                )
        return warmup

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        key = f'{prefix}errors'
        if key in state_dict:  # of earlier versions, which had NaN there
            state_dict[key] = state_dict[key].nan_to_num(nan=_UNKNOWN)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def detaches(self, stage: str) -> bool:
        """Whether the student's feature of a stage enters detached in this iteration.

        Raises:
            UsageError: (a ValueError) In training, if nothing has set ``iteration``.
        """
        if self.iteration is None:
            if torch.is_grad_enabled():
                raise UsageError(
                    'DPKLoss has a module_warmup, but no hook says which iteration this is; train with tools/train.py, '
                    "add default_hooks = dict(warmup=dict(type='mmrazor.WarmupHook')) to the config, or leave "
                    'module_warmup out.'
                )
            return False
        place = self.stages.index(stage)
        ended = self.iteration >= self.iterations or (
            self.limit is not None and bool(self.ended[place])
        )
        if ended and self.iterations and stage not in self._said:
            self._said.add(stage)
            print_log(
                f'DPKLoss: stage {stage}: the warm-up of its modules is over at iteration {self.iteration}'
                + (f', error {self.errors[place]:.3f}.' if self.errors[place] >= 0 else '.'),
                'current',
            )
        return not ended

    def measures(self, stage: str) -> bool:
        """Whether the error of a stage is measured in this iteration."""
        if self.limit is None or not self.iteration or self.iteration % self.interval:
            return False
        return self.iteration < self.iterations and not bool(self.ended[self.stages.index(stage)])

    @torch.no_grad()
    def observe(self, stage: str, hybrid: Tensor, teacher: Tensor) -> None:
        """Takes up the error of a stage where it is time to, with the same result on every rank.

        Args:
            stage: Its name.
            hybrid: Its whole map from the teacher's tokens alone, see :func:`rebuilt`.
            teacher: The teacher's.
        """
        if not self.measures(stage):
            return
        place = self.stages.index(stage)
        sums = error_and_variance(hybrid, teacher)
        all_reduce(sums)
        error = sums[0] / sums[1]
        if not torch.isfinite(error):
            return
        before = self.errors[place]
        if before >= 0:
            error = self.momentum * before + (1 - self.momentum) * error
        self.errors[place] = error
        self.ended[place] = error <= self.limit


def rebuilt(transform: FeatureTransform, student: Tensor, teacher: Tensor) -> tuple[Tensor, None]:
    """The hybrid feature made of the teacher's tokens alone, as ``Stage.in_windows`` calls it."""
    tokens = transform.num_tokens((teacher.shape[-2], teacher.shape[-1]))
    index = unmasked(teacher.shape[0], tokens, teacher.device)
    return transform(student, teacher, 1.0, TokenMask(index.teacher, index.student)), None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
