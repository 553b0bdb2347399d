"""How hard each loss pulls at the student, for choosing loss weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmrazor.registry import HOOKS
from torch import Tensor, nn

from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.errors import UsageError

from .feature_gradients import STUDENT, distiller_of
from .level_probe import LevelProbe
from .loss_names import monitor_name
from .loss_sums import sum_losses
from .measuring import loss_scale, on_every_rank

_LISTENERS = '_loss_listeners'


@HOOKS.register_module()
class LossGradientHook(Hook):
    """Logs the gradient of each distillation loss on the student beside that of the student's own losses.

    A loss weight means nothing by itself: whether 0.2 is much depends on how large the features are and over what they
    are averaged. What counts is the gradient on the student's parameters. Every ``interval`` iterations, the first one
    included, this hook writes to the message hub, and with it to the console and every visualizer backend:

    - ``train/gradient/student``: norm (L2) of the gradient of all ``student.*`` losses together.
    - ``train/gradient/distill.<name>``: the same of each distillation loss, with its weight, and for a loss of several
      parts, as FGD's, also ``train/gradient/distill.<name>.<part>``. Names are those of the losses without the word
      "loss".
    - ``train/gradient_cosine/distill.<name>``: cosine of this gradient and the student's own, in [-1, 1]. Near 1 the
      teacher asks for what the labels ask for already; below 0 it works against them; 0 where one of them is zero.

    The training itself is not touched: gradients are those of the step's own forward pass, before clipping and without
    the factor of a gradient scaler (in float16 small ones may vanish, which bfloat16 and float32 do not have). Each
    measured iteration costs one more backward pass for each part of a distillation loss and one for the student's. In a
    distributed run every process measures its own mini-batch, and the main process logs its own.

    Args:
        interval: Iterations between two measurements, at least 1.
        part: Which parameters of the student, by the beginning of their names, such as ``'backbone'``; all by
            default. A distillation of features does not reach the heads.
        by_level: Whether to look at each feature of the student that a loss is given, too; see :class:`LevelProbe`
            for what is logged.

    Raises:
        UsageError: (a ValueError) Here for a bad interval; before training if the model has no student, or the student
            no trainable parameter in ``part``, or with ``by_level`` a loss gets its features through a connector.
    """

    priority = 'NORMAL'

    def __init__(self, interval: int = 50, part: str = '', by_level: bool = False) -> None:
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise UsageError(
                f'LossGradientHook: interval must be a whole number of at least 1, but is {interval!r}.'
            )
        self.interval = interval
        self.part = part
        self.by_level = by_level
        self._probe: LevelProbe | None = None

    def before_train(self, runner) -> None:
        """Listens to the losses of each iteration."""
        chosen = trained_parameters(runner.model, type(self).__name__, self.part)
        if self.by_level:
            self._probe = LevelProbe(distiller_of(runner, 'LossGradientHook by_level'))

        def measure(losses: Mapping[str, Any]) -> None:
            if runner.iter % self.interval:
                return
            whole = any(name.startswith((f'{STUDENT}.', 'distill.')) for name in losses)
            if not on_every_rank(whole, losses):
                return
            scale = loss_scale(runner)
            found = loss_gradients(losses, chosen, scale)
            if self._probe is not None:
                found.update(self._probe.measure(losses, scale))
            if scale != 1 and not all(map(math.isfinite, found.values())):
                return  # too large a scale: the step is left out, too
            for name, value in found.items():
                runner.message_hub.update_scalar(f'train/{name}', value)

        self._stop = listen_to_losses(unwrap(runner.model), measure)

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Looks at the modules in the iterations that are measured alone."""
        if self._probe is not None:
            self._probe.listen(runner.iter % self.interval == 0)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Lets go of the features."""
        if self._probe is not None:
            self._probe.clear()

    def after_train(self, runner) -> None:
        """Listens no more."""
        if self._probe is not None:
            self._probe.remove()
        self._stop()


def trained_parameters(model: nn.Module, owner: str, part: str = '') -> list[nn.Parameter]:
    """The parameters of the student that are trained.

    Args:
        model: A distillation, wrapped for a distributed run or not.
        owner: Who asks, the subject of the sentences.
        part: Only those whose names begin with this module's; all by default.

    Raises:
        UsageError: If the model has no student, or the student no trainable parameter in ``part``.
    """
    model = unwrap(model)
    student = getattr(model, 'student', None)
    if student is None:
        raise UsageError(
            f'{owner} compares the losses of a distillation, but the model is a {type(model).__name__} '
            'without a student; remove the hook from the config.'
        )
    named = {name: p for name, p in student.named_parameters() if p.requires_grad}
    chosen = [p for name, p in named.items() if not part or f'{name}.'.startswith(f'{part}.')]
    if not chosen:
        parts = ', '.join(dict.fromkeys(name.split('.')[0] for name in named))
        raise UsageError(
            f'{owner}: part is {part!r}, but the trainable parameters of the student are in '
            f'{parts or "none"}.'
        )
    return chosen


def listen_to_losses(
    model: nn.Module, listener: Callable[[Mapping[str, Any]], None]
) -> Callable[[], None]:
    """Has a function called with the losses of each training step, before they are summed.

    Args:
        model: Whose ``parse_losses`` is called in each step; of several listeners each is called.
        listener: Gets what ``parse_losses`` gets.

    Returns:
        A function that ends it; the model has its own method back when nobody listens any more.
    """
    listeners = model.__dict__.setdefault(_LISTENERS, [])
    listeners.append(listener)
    if len(listeners) == 1:
        parse = model.parse_losses

        def parse_losses(losses: Mapping[str, Any]) -> Any:
            for each in tuple(listeners):
                each(losses)
            return parse(losses)

        model.__dict__['parse_losses'] = parse_losses

    def stop() -> None:
        if listener in listeners:
            listeners.remove(listener)
            if not listeners:
                model.__dict__.pop('parse_losses', None)  # unless another hook has done so
                model.__dict__.pop(_LISTENERS, None)

    return stop


def loss_gradients(
    losses: Mapping[str, Tensor | Sequence[Tensor]],
    parameters: Sequence[Tensor],
    scale: float = 1.0,
) -> dict[str, float]:
    """Norms of the gradients of the losses, and their cosines with the student's.

    Args:
        losses: Of a forward pass, as mmengine takes them: a tensor or several tensors each, of which the means are
            summed; names without "loss" are no losses. ``student.*`` are taken together.
        parameters: The gradient is taken with respect to these; it is zero where a loss does not reach them.
        scale: Factor of the losses in the backward passes, taken out of the result; see
            :func:`~dpk_mm.engine.hooks.measuring.loss_scale`.

    Returns:
        ``gradient/<name>`` and ``gradient_cosine/<name>`` -> number. The graph of the losses is left as it was.
    """
    sums = sum_losses(
        losses, lambda name: STUDENT if name.startswith(f'{STUDENT}.') else monitor_name(name)
    )
    found: dict[str, float] = {}
    wholes: dict[str, Tensor] = {}
    for name, total in sums.items():
        gradient = _gradient(total, parameters, scale)
        whole = '.'.join(name.split('.')[:2])
        wholes[whole] = wholes[whole] + gradient if whole in wholes else gradient
        found[f'gradient/{name}'] = gradient.norm().item()
    own = wholes.get(STUDENT)
    for name, gradient in wholes.items():
        norm = gradient.norm()
        found[f'gradient/{name}'] = norm.item()
        if own is not None and name != STUDENT:
            both = norm * own.norm()
            cosine = torch.where(both > 0, gradient @ own / both, torch.zeros_like(both))
            found[f'gradient_cosine/{name}'] = cosine.item()
    return found


def _gradient(loss: Tensor, parameters: Sequence[Tensor], scale: float) -> Tensor:
    """One vector, float32."""
    if not loss.requires_grad:
        return loss.new_zeros(sum(p.numel() for p in parameters))
    parts = torch.autograd.grad(scale * loss, parameters, retain_graph=True, allow_unused=True)
    return torch.cat(
        [
            torch.zeros_like(p, dtype=torch.float32).flatten()
            if g is None
            else g.float().flatten() / scale
            for g, p in zip(parts, parameters, strict=True)
        ]
    )
