"""How hard each loss pulls at the student, for choosing loss weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmrazor.registry import HOOKS
from torch import Tensor

from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.errors import UsageError

from .feature_gradients import STUDENT, distiller_of
from .level_probe import LevelProbe
from .loss_names import monitor_name


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
            no trainable parameter in ``part``.
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
        model = unwrap(runner.model)
        student = getattr(model, 'student', None)
        if student is None:
            raise UsageError(
                f'LossGradientHook compares the losses of a distillation, but the model is a {type(model).__name__} '
                'without a student; remove the hook from custom_hooks.'
            )
        names = [name for name, p in student.named_parameters() if p.requires_grad]
        chosen = [p for n, p in student.named_parameters() if n in names and self._in_part(n)]
        if not chosen:
            parts = ', '.join(dict.fromkeys(name.split('.')[0] for name in names))
            raise UsageError(
                f'LossGradientHook: part is {self.part!r}, but the trainable parameters of the student are in '
                f'{parts or "none"}.'
            )
        if self.by_level:
            self._probe = LevelProbe(distiller_of(runner, 'LossGradientHook by_level'))
        parse = model.parse_losses

        def measured(losses: Mapping[str, Any]) -> Any:
            if runner.iter % self.interval == 0:
                for name, value in loss_gradients(losses, chosen).items():
                    runner.message_hub.update_scalar(f'train/{name}', value)
                if self._probe is not None:
                    for name, value in self._probe.measure(losses).items():
                        runner.message_hub.update_scalar(f'train/{name}', value)
            return parse(losses)

        model.parse_losses = measured

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Looks at the modules in the iterations that are measured alone."""
        if self._probe is not None:
            self._probe.listen(runner.iter % self.interval == 0)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Lets go of the features."""
        if self._probe is not None:
            self._probe.clear()

    def after_train(self, runner) -> None:
        """Gives the model its own method back."""
        if self._probe is not None:
            self._probe.remove()
        unwrap(runner.model).__dict__.pop('parse_losses', None)

    def _in_part(self, name: str) -> bool:
        return not self.part or name == self.part or name.startswith(f'{self.part}.')


def loss_gradients(
    losses: Mapping[str, Tensor | Sequence[Tensor]], parameters: Sequence[Tensor]
) -> dict[str, float]:
    """Norms of the gradients of the losses, and their cosines with the student's.

    Args:
        losses: Of a forward pass, as mmengine takes them: a tensor or several tensors each, of which the means are
            summed; names without "loss" are no losses. ``student.*`` are taken together.
        parameters: The gradient is taken with respect to these; it is zero where a loss does not reach them.

    Returns:
        ``gradient/<name>`` and ``gradient_cosine/<name>`` -> number. The graph of the losses is left as it was.
    """
    sums: dict[str, Tensor] = {}
    for name, value in losses.items():
        if 'loss' not in name:
            continue
        key = STUDENT if name.startswith(f'{STUDENT}.') else monitor_name(name)
        values = [value] if isinstance(value, Tensor) else value
        total = torch.stack([v.mean().float() for v in values]).sum()
        sums[key] = sums[key] + total if key in sums else total

    found: dict[str, float] = {}
    wholes: dict[str, Tensor] = {}
    for name, total in sums.items():
        gradient = _gradient(total, parameters)
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


def _gradient(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """One vector, float32."""
    if not loss.requires_grad:
        return loss.new_zeros(sum(p.numel() for p in parameters))
    parts = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return torch.cat(
        [
            torch.zeros_like(p, dtype=torch.float32).flatten() if g is None else g.float().flatten()
            for g, p in zip(parts, parameters, strict=True)
        ]
    )
