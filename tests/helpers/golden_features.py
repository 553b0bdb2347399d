"""Inputs on which public implementations of feature losses were evaluated, and how their values are compared.

The numbers in the tests are those of mdistiller, RepDistiller, torchdistill and the authors' codes, in float32.
"""

from __future__ import annotations

import pytest
import torch


def feats(shape_s=(4, 6, 8, 8), shape_t=(4, 6, 8, 8), seed=1):
    torch.manual_seed(seed)
    return torch.randn(*shape_s, requires_grad=True), torch.randn(*shape_t)


def feats_channels():
    """Other channels, the same size."""
    return feats(shape_t=(4, 10, 8, 8), seed=2)


def feats_large():
    """The student's map is larger."""
    return feats(shape_s=(4, 6, 16, 16), shape_t=(4, 10, 8, 8), seed=3)


def feats_small():
    """The student's map is smaller."""
    return feats(shape_t=(4, 10, 16, 16), seed=4)


def fill(parameter, k, base=0.0, amp=0.1):
    """Weights without random numbers: ``base + amp cos(0.37 i + k)``, i counts the elements in memory order."""
    places = torch.arange(parameter.numel(), dtype=torch.float64)
    values = base + amp * torch.cos(0.37 * places + k)
    with torch.no_grad():
        parameter.copy_(values.view_as(parameter))


def check(value, student, expected, gradient, rel=1e-5):
    """Compares a loss, and the L2 norm of its gradient with respect to the student's feature."""
    student.grad = None
    value.backward()
    assert value.item() == pytest.approx(expected, rel=rel)
    assert student.grad.norm().item() == pytest.approx(gradient, rel=rel)
