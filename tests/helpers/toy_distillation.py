"""A distillation of a few numbers, whose gradients are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmrazor.registry import MODELS
from torch import Tensor, nn

from dpk_mm.models.loss_parts import DistillLoss


class Student(nn.Module):
    """Two features, ``body`` of each image; the losses are linear in them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Identity()
        self.w = nn.Parameter(torch.tensor([1.0, 2.0]))

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.body((inputs * self.w[0], inputs * self.w[1]))


class PullLoss(DistillLoss):
    """``sum_i pulls[i] * sum(S_i) * scale``, with a parameter ``scale`` of its own."""

    def __init__(self, pulls: list[float], names: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pulls = list(pulls)
        self.named = names
        self.scale = nn.Parameter(torch.ones(()))

    def feature_names(self) -> dict[tuple[str, int], str]:
        return {('student', 1): 'P5'} if self.named else {}

    def parts(self, student_feats: Any, teacher_feats: Any) -> dict[str, Tensor]:
        feats = zip(self.pulls, student_feats, strict=True)
        values = [self.loss_weight * self.scale * pull * s.sum() for pull, s in feats]
        return {'first': values[0], 'second': values[1]}


class Toy(BaseModel):
    """Student, teacher and a real distiller; the student's own losses pull with ``tasks``."""

    def __init__(self, losses: dict[str, Any], tasks: tuple[float, float] = (3.0, 4.0)) -> None:
        super().__init__()
        self.student = Student()
        self.distiller = MODELS.build(
            dict(
                type='mmrazor.DPKDistiller',
                records=dict(feats='body'),
                distill_losses={name: dict(type='mmrazor.FGDLoss') for name in losses},
            )
        )
        self.distiller.distill_losses = nn.ModuleDict(losses)
        mapping = {
            f'{side}_feats': dict(recorder='feats', from_student=side == 'student')
            for side in ('student', 'teacher')
        }
        self.distiller.loss_forward_mappings = dict.fromkeys(losses, mapping)
        object.__setattr__(self, 'teacher', Student())
        self.distiller.prepare_from_student(self.student)
        self.distiller.prepare_from_teacher(self.teacher)
        self.tasks = tasks

    def forward(self, inputs: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        with self.distiller.teacher_recorders, torch.no_grad():
            self.teacher(inputs)
        with self.distiller.student_recorders:
            feats = self.student(inputs)
        losses = {
            'student.loss_cls': sum(t * f.sum() for t, f in zip(self.tasks, feats, strict=True))
        }
        for name, value in self.distiller.compute_distill_losses().items():
            losses[f'distill.{name}'] = value
        return losses


def runner_of(model: Any, hooks: tuple = (), resume: bool = False) -> SimpleNamespace:
    """What the hooks ask of a runner."""
    return SimpleNamespace(
        model=model,
        iter=0,
        hooks=list(hooks),
        cfg={},
        _resume=resume,
        logger=SimpleNamespace(warning=lambda text: None),
        message_hub=MessageHub('toy_distillation'),
    )


def scalars(runner: SimpleNamespace) -> dict[str, float]:
    """The last values of what was logged."""
    return {
        key.removeprefix('train/'): value.current()
        for key, value in runner.message_hub.log_scalars.items()
    }
