"""How alike the stages of a student and its teacher are, batch by batch: CKA or cosine (Fig. 5, 9 and 10 of the paper).

The paper takes 12,800 validation images in batches of 32, one value for each batch, and shows the 400 values ranked.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor, nn

from ..engine.datasets.replay_dataset import seeded
from ..engine.runner.prepare import prepare_config
from ..errors import UsageError, did_you_mean, first_few
from ..functional.similarity import (
    MIN_SAMPLES,
    mean_cosine_similarity,
    minibatch_cka,
    positions_as_samples,
)
from ..models.distillers.records import SIDES, expand_records
from .loading import (
    PathLike,
    build_model,
    load_own_teacher,
    load_student_weights,
    read_config,
    scope_of,
)

METRICS = ('cka', 'cosine')
SAMPLES = ('images', 'positions')
PARTS = ('train', 'val', 'test')
#: The paper's batch size.
BATCH_SIZE = 32


@dataclass(frozen=True)
class StageSimilarity:
    """Similarities of one stage of one student to the teacher's.

    Attributes:
        student: Name of the student.
        stage: Name of the stage, such as ``'backbone[1]'``.
        values: One for each batch, in the order of the batches.
    """

    student: str
    stage: str
    values: list[float]

    @property
    def mean(self) -> float:
        """Mean over the batches."""
        return sum(self.values) / len(self.values)

    @property
    def ranked(self) -> list[float]:
        """The values from the largest to the smallest."""
        return sorted(self.values, reverse=True)


class Taps:
    """The outputs of some modules of a model, by stage, from its last forward pass.

    Args:
        model: The model.
        names: Names of its modules. An output that is a tuple or a list has a stage for each tensor in it.
        side: What the model is called in the message.

    Raises:
        UsageError: If a module does not exist.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], side: str = 'model') -> None:
        self._model = model
        self._names = list(names)
        self._found: dict[str, list[Tensor]] = {}
        modules = dict(model.named_modules())
        for name in names:
            if name not in modules:
                near = did_you_mean(name, modules)
                raise UsageError(f'the {side} has no module {name}{near or "."}')
        # a module may stand in several pairs
        self._handles = [
            modules[name].register_forward_hook(self._keep(name)) for name in dict.fromkeys(names)
        ]

    def _keep(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            tensors = output if isinstance(output, (tuple, list)) else [output]
            self._found[name] = [t for t in tensors if isinstance(t, Tensor)]

        return hook

    def run(self, inputs: Tensor, data_samples: Any = None) -> list[tuple[str, Tensor]]:
        """Runs the model as far as it is needed.

        Args:
            inputs: ``[N, C, H, W]``, normalised for the model.
            data_samples: Of the images.

        Returns:
            (stage, output ``[N, ...]``) in the order of the names, not of the forward pass.

        Raises:
            UsageError: If a module gave no tensor.
        """
        self._found = {}
        extract = getattr(self._model, 'extract_feat', None)
        if extract is not None:
            extract(inputs)
        if len(self._found) < len(self._handles):
            self._model(inputs, data_samples, mode='tensor')
        if len(self._found) < len(self._handles) or not all(self._found.values()):
            raise UsageError(
                f'not each of the modules gives a tensor in a forward pass; found {first_few(self._found) or "none"}: '
                "name modules of the backbone or the neck, such as 'backbone'."
            )
        return [
            (name if len(self._found[name]) == 1 else f'{name}[{index}]', tensor)
            for name in self._names
            for index, tensor in enumerate(self._found[name])
        ]

    def close(self) -> None:
        """Removes the hooks."""
        for handle in self._handles:
            handle.remove()


def recorded_modules(cfg: Config) -> dict[str, list[str]]:
    """The modules whose features a distillation compares: its record ``feats``, or else the backbones.

    Returns:
        ``dict(student=[...], teacher=[...])`` of names of modules.
    """
    records = expand_records((cfg.model.get('distiller') or {}).get('records'))
    found: dict[str, list[str]] = {}
    for side in SIDES:
        source = records[side].get('feats', {}).get('source')
        found[side] = [source] if isinstance(source, str) else list(source or ['backbone'])
    return found


def similarity(student: Tensor, teacher: Tensor, metric: str, samples: str = 'images') -> float:
    """Similarity of one stage on one batch.

    Args:
        student: ``[N, ...]``.
        teacher: ``[N, ...]``, the same images.
        metric: ``'cka'`` (Eq. 7, of this batch) or ``'cosine'`` (mean over images and channels, of
            vectors over images; equal shapes only).
        samples: What CKA takes as a sample: ``'images'``, of which four are needed, or ``'positions'``.

    Raises:
        UsageError: If the shapes differ for the cosine, or there are too few images for CKA.
    """
    if metric == 'cosine':
        if student.shape != teacher.shape:
            raise UsageError(
                f'the cosine compares channel with channel, but the student has {tuple(student.shape[1:])} and the '
                f'teacher {tuple(teacher.shape[1:])}: take --metric cka.'
            )
        if student.ndim == 2:  # one vector for each image
            student, teacher = student.unsqueeze(1), teacher.unsqueeze(1)
        return float(mean_cosine_similarity(student, teacher))
    if samples == 'positions':
        student, teacher = positions_as_samples(student), positions_as_samples(teacher)
    if len(student) < MIN_SAMPLES:
        raise UsageError(
            f'CKA needs {MIN_SAMPLES} samples in a batch, but one has {len(student)}: take a larger --batch-size, or '
            '--samples positions.'
        )
    return float(minibatch_cka(student, teacher))


def image_loader(cfg: Config, part: str, batch_size: int | None = None) -> Any:
    """The dataloader of a part in this process; a last batch that is not full is dropped.

    The images are shuffled, since many sets are sorted by class, and batches of one class say little. The order is that
    of a fixed seed, the same for each loader and each pass over it.

    Raises:
        UsageError: If the config has no such dataloader.
    """
    loader = cfg.get(f'{part}_dataloader')
    if loader is None:
        raise UsageError(f'the config has no {part}_dataloader: choose another part.')
    loader = dict(
        loader,
        sampler=dict(type='DefaultSampler', shuffle=True, seed=0),
        num_workers=0,
        persistent_workers=False,
        drop_last=True,
    )
    loader.pop('batch_sampler', None)
    loader.pop('prefetch_factor', None)
    if batch_size is not None:
        loader['batch_size'] = batch_size
    return Runner.build_dataloader(loader, seed=0)


@torch.no_grad()
def measure_similarity(
    config: PathLike | Config,
    students: Mapping[str, PathLike],
    teacher_ckpt: str | None = None,
    metric: str = 'cka',
    modules: Mapping[str, Sequence[str]] | None = None,
    samples: str = 'images',
    part: str = 'val',
    batches: int = 400,
    batch_size: int = BATCH_SIZE,
    options: Mapping[str, Any] | None = None,
    device: str | torch.device = 'cpu',
) -> list[StageSimilarity]:
    """Compares students of one config with the teacher, such as those before and after distillation.

    Args:
        config: Of a distillation; what its students were trained with does not matter, only the networks do.
        students: Name -> checkpoint, of a distillation or of the student alone.
        teacher_ckpt: The teacher's checkpoint, in place of the config's.
        metric: One of ``METRICS``.
        modules: ``dict(student=[...], teacher=[...])`` of names of modules; by default what the config records.
        samples: One of ``SAMPLES``, for CKA.
        part: One of ``PARTS``, the dataloader; each student sees the same images in the same order, augmented alike.
        batches: How many at most, at least 1.
        batch_size: Images of a batch.
        options: ``--cfg-options``.
        device: Torch device.

    Returns:
        One item for each student and stage.

    Raises:
        UsageError: If an argument is unknown, a checkpoint does not fit, the stages cannot be compared, or a similarity
            is not finite.
    """
    for what, value, known in (
        ('metric', metric, METRICS),
        ('kind of samples', samples, SAMPLES),
        ('part', part, PARTS),
    ):
        if value not in known:
            raise UsageError(f'the {what} must be one of {", ".join(known)}, but is {value!r}.')
    if batches < 1 or batch_size < 1 or not students:
        raise UsageError(
            f'at least one student, batch and image are needed, but found {len(students)} students, {batches} '
            f'batches of {batch_size}.'
        )
    cfg = prepare_config(read_config(config, options, teacher_ckpt), teacher_ckpt=teacher_ckpt)
    if 'teacher' not in cfg.model or 'architecture' not in cfg.model:
        raise UsageError(f'{_name(config)} has no teacher: give the config of a distillation.')
    modules = modules or recorded_modules(cfg)
    model = build_model(cfg).to(device)
    load_own_teacher(model)
    with scope_of(cfg), ExitStack() as stack:
        taps = {}
        for side, network in (('student', model.student), ('teacher', model.teacher)):
            taps[side] = Taps(network, modules[side], side)
            stack.callback(taps[side].close)
        loader = image_loader(cfg, part, batch_size)
        found: list[StageSimilarity] = []
        for name, checkpoint in students.items():
            load_student_weights(model.student, checkpoint)
            values: dict[str, list[float]] = {}
            with seeded(0):  # or augmentations would differ between the students
                for batch in islice(loader, batches):
                    for stage, pair in pair_of_stages(model, taps, batch).items():
                        value = _of_stage(stage, *pair, metric, samples)
                        values.setdefault(stage, []).append(value)
                        check_finite([StageSimilarity(name, stage, values[stage])])
            if not values:
                raise UsageError(
                    f'the {part} part has less than {batch_size} images: take a smaller --batch-size.'
                )
            found += [StageSimilarity(name, stage, of_stage) for stage, of_stage in values.items()]
    return found


def check_finite(found: Sequence[StageSimilarity]) -> None:
    """Looks for values that neither a mean nor a scale of colours can be made of.

    Args:
        found: Similarities of students.

    Raises:
        UsageError: If a value is not finite.
    """
    for item in found:
        for number, value in enumerate(item.values, 1):
            if not math.isfinite(value):
                raise UsageError(
                    f'student {item.student}, stage {item.stage}: the similarity of batch {number} is {value}, since a '
                    'feature there is not finite, or the same for all samples; check the checkpoint, or name other '
                    '--modules.'
                )


def pair_of_stages(
    model: Any, taps: Mapping[str, Taps], batch: Any
) -> dict[str, tuple[Tensor, Tensor]]:
    """Runs student and teacher of a distillation on one batch.

    Args:
        model: Of ``build_model``, in eval mode.
        taps: Of ``'student'`` and ``'teacher'``.
        batch: Of a dataloader.

    Returns:
        The student's stage -> outputs of both; with the teacher's, as in ``--modules``, where the student's is in
        several pairs.

    Raises:
        UsageError: If the numbers of stages differ.
    """
    data = model.data_preprocessor(batch, training=False)
    inputs, data_samples = data['inputs'], data.get('data_samples')
    own = taps['student'].run(inputs, data_samples)
    # mmrazor's own algorithms have neither
    for_teacher = getattr(model, 'input_of_teacher', None)
    given = inputs if for_teacher is None else for_teacher(inputs, data_samples)
    theirs = taps['teacher'].run(given, data_samples)
    if for_teacher is not None:
        image = inputs.shape[-2:]
        theirs = [(stage, model.as_student_grid(t, image)) for stage, t in theirs]
    names = [[stage for stage, _ in stages] for stages in (own, theirs)]
    if len(own) != len(theirs):
        raise UsageError(
            f'the student has the stages {first_few(names[0])}, and the teacher {first_few(names[1])}: name as many '
            'modules of each.'
        )
    pairs = zip(own, theirs, strict=True)
    return {
        # one of the student's beside several of the teacher's needs both names
        stage if names[0].count(stage) == 1 else f'{stage}={their_stage}': (feature, their_feature)
        for (stage, feature), (their_stage, their_feature) in pairs
    }


def _of_stage(stage: str, student: Tensor, teacher: Tensor, metric: str, samples: str) -> float:
    try:
        return similarity(student, teacher, metric, samples)
    except UsageError as error:
        raise UsageError(f'{stage}: {error}') from None


def _name(config: Any) -> str:
    return 'the config' if isinstance(config, Config) else os.fspath(config)
