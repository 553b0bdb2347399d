"""Inputs for which public implementations of distillation losses were evaluated, and how to compare with them."""

from types import SimpleNamespace

import torch


def logits():
    """Student and teacher ``[8, 10]``, labels ``[8]``."""
    torch.manual_seed(0)
    student, teacher = torch.randn(8, 10) * 3, torch.randn(8, 10) * 3
    return student, teacher, torch.randint(0, 10, (8,))


def feats_channels():
    """Maps of one size with other channels."""
    torch.manual_seed(2)
    return torch.randn(4, 6, 8, 8), torch.randn(4, 10, 8, 8)


def pooled():
    """What classifiers read, of other widths."""
    torch.manual_seed(5)
    return torch.randn(8, 12), torch.randn(8, 20)


def embedded():
    """The same of one width."""
    torch.manual_seed(6)
    return torch.randn(8, 16), torch.randn(8, 16)


def samples(labels):
    """Data samples with these labels."""
    return [SimpleNamespace(gt_label=label.reshape(1)) for label in labels]


def value_and_gradient(loss, student, *others):
    """The loss, and the L2 norm of its gradient with respect to the student's tensor."""
    student = student.clone().requires_grad_()
    value = loss(student, *others)
    (grad,) = torch.autograd.grad(value, student)
    return value.item(), grad.norm().item()


def check_against_slow(loss, slow, student, teacher, *others):
    """Value and every entry of the gradient against a float64 formula of (student, teacher)."""
    ours = student.clone().requires_grad_()
    exact = student.double().requires_grad_()
    value, expected = loss(ours, teacher, *others), slow(exact, teacher.double())
    (grad,) = torch.autograd.grad(value, ours)
    (expected_grad,) = torch.autograd.grad(expected, exact)
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-8)
    largest = expected_grad.abs().max().item()
    torch.testing.assert_close(grad.double(), expected_grad, rtol=1e-5, atol=1e-6 * largest)
