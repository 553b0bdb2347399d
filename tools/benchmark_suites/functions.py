"""Suites of single functions and modules: FGD, the encoders, the gap, and how they grow."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor

from dpk_mm.functional import foreground_background_masks, hsic_sums, positions_as_samples
from dpk_mm.models.losses import FGDLoss
from dpk_mm.modules import DPKTransform

from .fgd_reference import fgd_by_terms
from .rows import Row, rows_of
from .timing import Case, interleave, peak_memory

CHANNELS = 256
FEATURE = (100, 168)  # P3 of an image of 800 x 1333, stride 8
IMAGE = (800, 1344)


def random_boxes(count: int, image: tuple[int, int], seed: int, device: str) -> Tensor:
    """``[count, 4]`` boxes inside an image; sides from 8 pixels to half of the image."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([image[1], image[0]], dtype=torch.float32)
    side = 8 + torch.rand(count, 2, generator=generator).pow(2) * (size / 2 - 8)
    corner = torch.rand(count, 2, generator=generator) * (size - side)
    return torch.cat([corner, corner + side], dim=1).to(device)


def _samples(boxes: list[Tensor], image: tuple[int, int]) -> list:
    # what FGDLoss reads of a DetDataSample
    return [
        SimpleNamespace(
            metainfo=dict(batch_input_shape=image), gt_instances=SimpleNamespace(bboxes=b)
        )
        for b in boxes
    ]


def _features(batch: int, shape: tuple[int, int], device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(batch, CHANNELS, *shape, generator=generator).to(device)
    teacher = torch.randn(batch, CHANNELS, *shape, generator=generator).to(device)
    return student.requires_grad_(), teacher


def _fgd_case(boxes_per_image: int, device: str, levels: int = 1) -> tuple[FGDLoss, Case]:
    loss = FGDLoss(levels=tuple(range(levels))).to(device)
    pairs = [
        _features(2, (FEATURE[0] >> level, FEATURE[1] >> level), device) for level in range(levels)
    ]
    samples = _samples([random_boxes(boxes_per_image, IMAGE, i, device) for i in range(2)], IMAGE)
    students, teachers = zip(*pairs, strict=True)

    def run() -> None:
        for student in students:
            student.grad = None
        loss(students, teachers, samples).backward()

    return loss, run


def fgd(rounds: int, device: str) -> list[Row]:
    """FGD forward and backward against the formulas written term by term, time and memory."""
    loss, ours = _fgd_case(100, device)
    student, teacher = _features(2, FEATURE, device)
    boxes = [random_boxes(100, IMAGE, i, device) for i in range(2)]

    def plain() -> None:
        student.grad = None
        fgd_by_terms(
            student,
            teacher,
            boxes,
            IMAGE,
            tuple(loss.weights),
            loss.student_context['0'],
            loss.teacher_context['0'],
        ).backward()

    cases = {'term by term, loop over boxes': plain, 'FGDLoss': ours}
    limit = '0.15' if device.startswith('cuda') else '0.25'
    return rows_of(
        'fgd',
        interleave(cases, rounds, device=device),
        memory={name: peak_memory(case, device) for name, case in cases.items()},
        targets={'FGDLoss': f'time <= {limit}, memory <= 0.4'},
        notes={'FGDLoss': '2 x 256 x 100 x 168, 100 boxes an image, forward + backward'},
    )


def fgd_boxes(rounds: int, device: str) -> list[Row]:
    """FGD by the number of boxes, and the masks alone."""
    counts = (10, 1, 100, 300)
    cases = {f'FGDLoss, {n} boxes an image': _fgd_case(n, device)[1] for n in counts}
    rows = rows_of(
        'fgd_boxes',
        interleave(cases, rounds, device=device),
        targets={'FGDLoss, 300 boxes an image': '<= 1.1'},
    )

    def masks(count: int) -> Case:
        boxes = [random_boxes(count, IMAGE, i, device) for i in range(2)]
        return lambda: foreground_background_masks(boxes, IMAGE, FEATURE)

    cases = {f'masks alone, {n} boxes an image': masks(n) for n in counts}
    return rows + rows_of('fgd_boxes', interleave(cases, rounds, device=device))


def fgd_levels(rounds: int, device: str) -> list[Row]:
    """FGD by the number of levels of a pyramid."""
    cases = {f'FGDLoss, {n} level{"s" * (n > 1)}': _fgd_case(20, device, n)[1] for n in range(1, 6)}
    return rows_of('fgd_levels', interleave(cases, rounds, device=device))


def _transform_case(
    side: int, mask_ratio: float, encode_first: bool, device: str, embed_dims: int = 512
) -> tuple[DPKTransform, Case]:
    module = DPKTransform(
        CHANNELS,
        CHANNELS,
        embed_dims=embed_dims,
        encoder_depth=4,
        decoder_depth=4,
        encode_first=encode_first,
    ).to(device)
    student, teacher = _features(2, (side, side), device)

    def run() -> None:
        student.grad = None
        module.zero_grad(set_to_none=True)
        module(student, teacher, mask_ratio).mean().backward()

    return module, run


def encoders(rounds: int, device: str) -> list[Row]:
    """Both encoders at ratio 0.5 and 441 tokens: masked first against masked afterwards."""
    length, width = 441, 512
    module = _transform_case(21, 0.5, False, device, width)[0]
    full = [torch.randn(2, length, width, device=device, requires_grad=True) for _ in range(2)]
    some = [
        torch.randn(2, n, width, device=device, requires_grad=True)
        for n in (length // 2, length - length // 2)
    ]

    def run(streams: list[Tensor]) -> Case:
        def case() -> None:
            module.zero_grad(set_to_none=True)
            out = (
                module.student_encoder(streams[0]).sum() + module.teacher_encoder(streams[1]).sum()
            )
            out.backward()

        return case

    cases = {'encoders, encode then mask': run(full), 'encoders, mask then encode': run(some)}
    rows = rows_of(
        'encoders',
        interleave(cases, rounds, device=device),
        memory={name: peak_memory(case, device) for name, case in cases.items()},
        targets={'encoders, mask then encode': '<= 0.55'},
        notes={'encoders, mask then encode': 'd 512, depth 4, batch 2, forward + backward'},
    )
    cases = {
        'whole module, encode then mask': _transform_case(21, 0.5, True, device)[1],
        'whole module, mask then encode': _transform_case(21, 0.5, False, device)[1],
    }
    return rows + rows_of('encoders', interleave(cases, rounds, device=device))


def tokens(rounds: int, device: str) -> list[Row]:
    """The transformation module by the number of tokens, at ratio 0.5."""
    cases = {
        f'DPKTransform, {side * side} tokens': _transform_case(side, 0.5, False, device, 256)[1]
        for side in (7, 14, 21, 32, 64)
    }
    return rows_of(
        'tokens',
        interleave(cases, rounds, warmup=1, device=device),
        memory={name: peak_memory(case, device) for name, case in cases.items()},
    )


def gap(rounds: int, device: str) -> list[Row]:
    """The HSIC sums of CKA by the side of the feature, positions as samples, and over images."""

    def positions(side: int) -> Case:
        student, teacher = (f.detach() for f in _features(2, (side, side), device))
        return lambda: hsic_sums(positions_as_samples(student), positions_as_samples(teacher))

    def images(count: int) -> Case:
        student, teacher = (f.detach() for f in _features(count, (14, 14), device))
        return lambda: hsic_sums(student, teacher)

    cases = {f'CKA, 2 x 256 x {s} x {s}, positions': positions(s) for s in (21, 42, 84)}
    cases |= {f'CKA, {n} x 256 x 14 x 14, images': images(n) for n in (16, 64, 256)}
    return rows_of('gap', interleave(cases, rounds, device=device))


SUITES: dict[str, Callable[[int, str], list[Row]]] = {
    'fgd': fgd,
    'fgd_boxes': fgd_boxes,
    'fgd_levels': fgd_levels,
    'encoders': encoders,
    'tokens': tokens,
    'gap': gap,
}
