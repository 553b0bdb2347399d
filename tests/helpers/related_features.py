"""Pairs of features that are related, for the tests of mask ratios."""

from __future__ import annotations

import torch
from torch import Tensor

OPEN = dict(min_ratio=0.0, max_ratio=1.0)  # nothing is clamped that a similarity in [0, 1] gives


def related_pair(
    n: int = 6,
    student: int = 3,
    teacher: int = 5,
    shape: tuple[int, int] = (2, 3),
    seed: int = 0,
    noise: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Related features: the student's channels are a noisy mix of the teacher's."""
    g = torch.Generator().manual_seed(seed)
    t = torch.randn(n, teacher, *shape, generator=g)
    mix = torch.randn(student, teacher, generator=g)
    s = torch.einsum('st,nthw->nshw', mix, t)
    return s + noise * torch.randn(s.shape, generator=g), t
