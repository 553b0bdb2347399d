"""Trains transformation modules on the teacher's features alone, before there is a student to speak of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..functional.feature_error import error_and_variance
from ..models.algorithms import DPKDistill
from ..models.losses import DPKLoss
from ..modules.hybrid_transform import FeatureTransform

_CLIP = 5.0


def train_modules(
    model: DPKDistill,
    batches: Iterable[Any],
    iterations: int,
    lr: float = 1e-3,
    weight_decay: float = 0.05,
    report: Callable[[int, dict[str, float]], None] | None = None,
) -> dict[str, float]:
    """Trains the modules of every ``DPKLoss`` to rebuild the teacher's feature from the teacher's own tokens.

    Where student and teacher have equal channels the teacher's feature enters both streams, with a ratio drawn
    uniformly from [0.1, 0.95], so that both encoders learn; else all tokens are the teacher's, and the student's
    encoder stays as it is. The loss is the error as a share of the teacher's variance, summed over stages, AdamW at a
    constant rate with gradients clipped at 5.

    Args:
        model: With its teacher loaded. Student and other losses are left as they are.
        batches: Of the training data, as its dataloader gives them; begun again where they end.
        iterations: Steps, at least 1.
        lr: Learning rate.
        weight_decay: Of the modules' parameters.
        report: Called with each iteration, counted from 1, and the errors.

    Returns:
        Stage -> error of the last mini-batch, as ``<loss>.<stage>``.

    Raises:
        UsageError: (a ValueError) If there is no such loss, or nothing of the teacher's can enter a module.
    """
    if iterations < 1:
        raise UsageError(f'iterations must be at least 1, but is {iterations}.')
    losses = {
        name: loss
        for name, loss in model.distiller.distill_losses.items()
        if isinstance(loss, DPKLoss)
    }
    if not losses:
        raise UsageError('the config has no DPKLoss, so there are no modules to train.')
    for name, loss in losses.items():
        for stage, transform in loss.transforms.items():
            given = getattr(transform, 'prior', None) == 'teacher'
            if not given and not _enters_both(transform):
                raise UsageError(
                    f"{name}.transforms.{stage} takes no tokens of the teacher's and has {transform.student_channels} "
                    f'channels where the teacher has {transform.teacher_channels}, so nothing can enter it without a '
                    "student; set prior='teacher', or leave the stage out."
                )
    parameters = [
        p
        for loss in losses.values()
        for transform in loss.transforms.values()
        for name, p in transform.named_parameters()
        if p.requires_grad and (_enters_both(transform) or _is_of_teacher(transform, name))
    ]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
    model.distiller.train()
    found: dict[str, float] = {}
    for iteration, batch in enumerate(_forever(batches, iterations), start=1):
        data = model.data_preprocessor(batch, training=True)
        shares = _shares(model, losses, data['inputs'], data.get('data_samples'))
        optimizer.zero_grad()
        torch.stack(list(shares.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(parameters, _CLIP)
        optimizer.step()
        found = {name: share.item() for name, share in shares.items()}
        if report is not None:
            report(iteration, found)
    return found


def _enters_both(transform: FeatureTransform) -> bool:
    """Whether the teacher's feature can stand for the student's, too."""
    return transform.student_channels == transform.teacher_channels


def _is_of_teacher(transform: FeatureTransform, name: str) -> bool:
    """Whether tokens of the teacher alone reach a parameter."""
    shared = getattr(transform, 'teacher_encoder_form', 'own') == 'shared'
    return not name.startswith('student_') or (shared and name.startswith('student_encoder.'))


def _shares(
    model: DPKDistill, losses: dict[str, DPKLoss], inputs: Tensor, data_samples: Any
) -> dict[str, Tensor]:
    distiller = model.distiller
    model.record_teacher(inputs, data_samples)
    shares = {}
    for name, loss in losses.items():
        feats = distiller.get_record(**distiller.loss_forward_mappings[name]['teacher_feats'])
        feats = (feats,) if isinstance(feats, Tensor) else tuple(feats)
        for key, stage in loss.stages.items():
            transform = loss.transforms[key]
            teacher = stage.pick('teacher', feats).detach()
            if _enters_both(transform):
                student, ratio = teacher, 0.1 + 0.85 * torch.rand(()).item()
            else:
                shape = (teacher.shape[0], transform.student_channels, *teacher.shape[2:])
                student, ratio = teacher.new_zeros(shape), 1.0
            hybrid, _ = stage.in_windows(
                transform, student, teacher, partial(_hybrid, transform, ratio)
            )
            variance = error_and_variance(teacher, teacher)[1]
            error = (hybrid.float() - teacher.float()).square().sum()
            shares[f'{name}.{key}'] = error / variance.clamp_min(1e-12)
    distiller.clear_records()
    return shares


def _hybrid(
    transform: FeatureTransform, ratio: float, student: Tensor, teacher: Tensor
) -> tuple[Tensor, None]:
    return transform(student, teacher, ratio), None


def _forever(batches: Iterable[Any], count: int) -> Iterator[Any]:
    done = 0
    while done < count:
        before = done
        for batch in batches:
            yield batch
            done += 1
            if done == count:
                return
        if done == before:
            raise UsageError('the training data have no batch.')
