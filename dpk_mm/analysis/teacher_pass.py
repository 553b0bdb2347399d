"""What one pass over some hundred images says of a teacher: whether it fits, score, calibration, time, memory, CKA."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from torch import Tensor, nn

from ..engine.hooks.class_check_hook import check_teacher_classes, class_names
from ..engine.metrics import numbers
from ..errors import CheckpointError, UsageError
from ..functional.similarity import MIN_SAMPLES, cka_from_sums, hsic_sums
from ..models.losses import DPKLoss
from ..modules import FixedMaskRatio
from .calibration import expected_calibration_error
from .feature_similarity import BATCH_SIZE, Taps, image_loader, pair_of_stages, recorded_modules
from .loading import (
    PathLike,
    build_model,
    load_own_teacher,
    load_student_weights,
    read_config,
    scope_of,
)

#: What a network or a loss raises for a partner that does not fit.
_MISFITS = (
    UsageError,
    CheckpointError,
    FileNotFoundError,
    ValueError,
    RuntimeError,
    AssertionError,
)


@dataclass(frozen=True)
class TeacherPass:
    """What was measured.

    Attributes:
        metrics: Of the evaluator, on these images, as it gives them.
        images: How many there were.
        calibration_error: Expected calibration error in [0, 1]; None for a model that gives no class probabilities.
        milliseconds: Forward time of one image, in batches.
        parameters: How many the teacher has.
        megabytes: Of the weights; with ``peak_megabytes``, on a GPU, of all that was allocated in a forward pass.
        peak_megabytes: None without a GPU.
        cka: Stage -> CKA with the student's feature; empty without a student.
    """

    metrics: dict[str, float]
    images: int
    calibration_error: float | None
    milliseconds: float
    parameters: int
    megabytes: float
    peak_megabytes: float | None
    cka: dict[str, float] = field(default_factory=dict)


def why_it_does_not_fit(cfg: Config, batch_size: int = 4) -> str | None:
    """Builds a pair, loads the teacher and computes the losses of one batch.

    Args:
        cfg: Of a distillation, whole; left unchanged.
        batch_size: Images of the batch, at least four for CKA.

    Returns:
        The sentence of the error; None if all went well.
    """
    try:
        # building draws weights, and the loss masks
        with torch.no_grad(), torch.random.fork_rng(devices=[]), scope_of(cfg):
            model = _load(cfg)
            for loss in model.distiller.modules():
                if isinstance(loss, DPKLoss):  # the hook of the training sets it else
                    loss.mask_ratio = FixedMaskRatio(0.5)
            loader = image_loader(cfg, 'val', batch_size)
            classes = class_names(getattr(loader.dataset, 'metainfo', None))
            if classes:
                check_teacher_classes(cfg, model, cfg.model.teacher_ckpt, classes)
            batch = next(iter(loader), None)
            if batch is None:
                raise UsageError(f'the val part has less than {batch_size} images.')
            model(**model.data_preprocessor(batch, training=False), mode='loss')
    except _MISFITS as error:
        text = ' '.join(str(error).split()) or type(error).__name__
        return text if text.endswith('.') else f'{text}.'
    return None


def measure_teacher(
    cfg: PathLike | Config,
    student_ckpt: PathLike | None = None,
    images: int = 500,
    batch_size: int | None = None,
    device: str | torch.device = 'cpu',
) -> TeacherPass:
    """Looks at the teacher of a distillation on validation images, as the student sees them.

    The images are drawn with a fixed seed, so that each teacher is measured on the same ones.

    Args:
        cfg: Of the distillation.
        student_ckpt: Of a student, trained briefly, for CKA; it is measured on the first eight batches.
        images: How many at most, in whole batches.
        batch_size: Images of a batch; by default that of the validation, but from 4, which CKA needs, to 32, and not
            more than there are or ``images`` says.
        device: Torch device.

    Raises:
        UsageError: If the teacher does not fit, or there are too few images.
    """
    cfg = read_config(cfg)
    model = _load(cfg).to(device)
    cuda = torch.device(device).type == 'cuda'
    with torch.no_grad(), scope_of(cfg):
        if batch_size is None:
            own = (cfg.get('val_dataloader') or {}).get('batch_size', 1)
            there = len(image_loader(cfg, 'val', MIN_SAMPLES).dataset)
            batch_size = max(MIN_SAMPLES, min(BATCH_SIZE, own, images, there))
        loader = image_loader(cfg, 'val', batch_size)
        evaluator = Evaluator(cfg.val_evaluator)
        evaluator.dataset_meta = getattr(loader.dataset, 'metainfo', None)
        clock = _Clock(cuda)
        confidences: list[float] = []
        correct: list[bool] = []
        ids: list[Any] = []
        seen = 0
        if cuda:  # else the largest of several teachers would count for all after it
            torch.cuda.reset_peak_memory_stats(device)
        for batch in loader:
            if seen + batch_size > images:
                break
            data = model.data_preprocessor(batch, training=False)
            inputs, data_samples = data['inputs'], data.get('data_samples')
            # mmrazor's own algorithms have neither
            given = getattr(model, 'teacher_input', _as_it_is)(inputs, data_samples)
            predict = getattr(model, 'teacher_predict', partial(model.teacher, mode='predict'))
            with clock:
                found = predict(given, data_samples)
            for sample in found:
                _add_confidence(sample, confidences, correct)
                ids.append(getattr(sample, 'img_id', None))
            evaluator.process(data_samples=found, data_batch=batch)
            seen += len(found)
        if not seen:
            raise UsageError(
                f'no image was measured: the val part has less than a batch of {batch_size}, or less are asked for.'
            )
        for metric in evaluator.metrics:
            if hasattr(metric, 'img_ids'):  # COCO's: else all other images would count as missed
                metric.img_ids = ids
        metrics = numbers(evaluator.evaluate(seen))
        cka = {} if student_ckpt is None else _cka(model, cfg, student_ckpt, loader, images)
    return TeacherPass(
        metrics=metrics,
        images=seen,
        calibration_error=(
            expected_calibration_error(confidences, correct) if len(confidences) == seen else None
        ),
        milliseconds=clock.milliseconds(batch_size),
        parameters=sum(p.numel() for p in model.teacher.parameters()),
        megabytes=_megabytes(model.teacher),
        peak_megabytes=torch.cuda.max_memory_allocated(device) / 1e6 if cuda else None,
        cka=cka,
    )


def _load(cfg: Config) -> Any:
    model = build_model(cfg)
    load_own_teacher(model)
    return model.eval()


def _as_it_is(inputs: Tensor, data_samples: Any) -> Tensor:
    return inputs


def _add_confidence(sample: Any, confidences: list[float], correct: list[bool]) -> None:
    """Probability of the predicted class, and whether it is right, of a sample of a single-label classifier."""
    scores, truth = getattr(sample, 'pred_score', None), getattr(sample, 'gt_label', None)
    if scores is None or truth is None or truth.numel() != 1:
        return
    top = float(scores.max())
    if 0 <= top <= 1 + 1e-6:
        confidences.append(min(top, 1.0))
        correct.append(int(scores.argmax()) == int(truth))


def _cka(model: Any, cfg: Config, ckpt: PathLike, loader: Any, images: int) -> dict[str, float]:
    """Minibatch CKA (Eq. 7: sums over the batches before the quotient) by stage."""
    load_student_weights(model.student, ckpt)
    modules = recorded_modules(cfg)
    taps = {
        side: Taps(network, modules[side], side)
        for side, network in (('student', model.student), ('teacher', model.teacher))
    }
    sums: dict[str, Tensor] = {}
    batches = max(1, min(8, images // loader.batch_size))
    for number, batch in enumerate(loader):
        if number == batches:
            break
        for stage, (own, theirs) in pair_of_stages(model, taps, batch).items():
            if len(own) >= MIN_SAMPLES:
                sums[stage] = sums.get(stage, 0) + hsic_sums(own, theirs)
    for tap in taps.values():
        tap.close()
    return {stage: float(cka_from_sums(total)) for stage, total in sums.items()}


def _megabytes(model: nn.Module) -> float:
    tensors = [*model.parameters(), *model.buffers()]
    return sum(t.numel() * t.element_size() for t in tensors) / 1e6


class _Clock:
    """Times forward passes; the first one, which warms up, counts only if there is no other."""

    def __init__(self, cuda: bool) -> None:
        self._cuda = cuda
        self._seconds: list[float] = []

    def __enter__(self) -> None:
        self._synchronize()
        self._start = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self._synchronize()
        self._seconds.append(time.perf_counter() - self._start)

    def _synchronize(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()

    def milliseconds(self, batch_size: int) -> float:
        """Median of an image."""
        counted = sorted(self._seconds[1:] or self._seconds)
        return 1e3 * counted[len(counted) // 2] / batch_size
