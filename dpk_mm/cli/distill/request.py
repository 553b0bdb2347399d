"""What a user asks ``tools/distill.py`` for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Request:
    """The options of ``tools/distill.py``, checked one by one; see its ``--help``.

    Attributes:
        teacher: Config or name of the teacher.
        student: Config or name of the student.
        work_dir: Folder of everything that is written, ``out`` excepted.
        out: The config of the distillation; those of student and teacher lie beside it.
        method: Name of the method; None for the usual one of the task.
        teacher_ckpt: File or URL.
        data: Of ``--data``.
        images: Of ``--images``.
        train: Whether to train, test and report.
        train_teacher: Whether to train the teacher first.
        baseline: Whether to train the student without a teacher, too.
        gradient_share: Gradient of the distillation over that of the student; None keeps the method's weights.
        epochs: Of the student; None for the zoo's.
        teacher_epochs: Of the teacher; None for ``epochs``.
        img_size: Side of the images in pixels.
        batch_size: Images of one GPU.
        lr: Learning rate.
        workers: Processes of each data loader.
        gpus: Processes of a training.
        seed: Of the random generators.
        cuda: False for the CPU although there may be a GPU; None to look.
        from_scratch: Whether no pretrained weights are used.
        cfg_options: Settings of the distillation and of its student.
        teacher_cfg_options: Settings of the teacher's config.
    """

    teacher: str
    student: str
    work_dir: Path
    out: Path
    method: str | None = None
    teacher_ckpt: str | None = None
    data: Sequence[str] = ()
    images: Sequence[str] = ()
    train: bool = False
    train_teacher: bool = False
    baseline: bool = False
    gradient_share: float | None = None
    epochs: int | None = None
    teacher_epochs: int | None = None
    img_size: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    workers: int | None = None
    gpus: int = 1
    seed: int | None = None
    cuda: bool | None = None
    from_scratch: bool = False
    cfg_options: Mapping[str, Any] = field(default_factory=dict)
    teacher_cfg_options: Mapping[str, Any] = field(default_factory=dict)
