import pytest
import torch

from dpk_mm.functional import residual_statistics as module
from dpk_mm.functional.residual_statistics import residual_statistics


def _inputs(dtype=torch.float64, shape=(2, 5, 3, 4)):
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))
    keys = [torch.randn(1, shape[1], generator=generator, dtype=dtype) for _ in range(2)]
    return student.requires_grad_(), teacher, *(k.requires_grad_() for k in keys)


def _slow(student, teacher, student_key, teacher_key, temperature):
    residual = teacher - student
    mean = residual.mean((2, 3))
    attention = teacher.shape[1] * (teacher.abs().mean((2, 3)) / temperature).softmax(1)

    def pooled(x, key):
        share = (key @ x.flatten(2)).softmax(-1)
        return (x.flatten(2) * share).sum(2)

    return dict(
        error=(attention[:, :, None, None] * residual**2).sum(1).flatten(1),
        mean=mean,
        spread=((residual - mean[:, :, None, None]) ** 2).sum((2, 3)),
        student_channel=student.abs().mean((2, 3)),
        student_spatial=student.abs().mean(1).flatten(1),
        student_pooled=pooled(student, student_key),
        teacher_pooled=pooled(teacher, teacher_key),
        teacher_channel=teacher.abs().mean((2, 3)),
        teacher_spatial=teacher.abs().mean(1).flatten(1),
    )


@pytest.fixture(params=[1, 30, 1 << 18], ids=['a channel', 'a few channels', 'all channels'])
def block(request, monkeypatch):
    monkeypatch.setattr(module, '_BLOCK', request.param)


@pytest.mark.usefixtures('block')
def test_values_equal_the_formulas():
    inputs = _inputs()
    fast, slow = residual_statistics(*inputs, 0.5), _slow(*inputs, 0.5)
    for name, value in slow.items():
        torch.testing.assert_close(getattr(fast, name), value, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures('block')
def test_gradients_equal_finite_differences():
    student, teacher, *keys = _inputs()
    with torch.no_grad():
        student += 0.1 * student.sign()  # away from the kink of |S|

    def outputs(student, *keys):
        return residual_statistics(student, teacher, *keys, 0.5)[:7]

    assert torch.autograd.gradcheck(outputs, (student, *keys))


def test_the_teacher_gets_no_gradient():
    student, teacher, *keys = _inputs()
    teacher.requires_grad_()
    values = residual_statistics(student, teacher, *keys, 0.5)
    assert not values.teacher_channel.requires_grad
    sum(v.sum() for v in values).backward()
    assert teacher.grad is None


def test_without_keys_nothing_is_pooled():
    student, teacher, key, _ = _inputs()
    values = residual_statistics(student, teacher, key, None, 0.5)
    assert not values.student_pooled.any() and not values.teacher_pooled.any()
    values.error.sum().backward()
    expected = _slow(student, teacher, key, key, 0.5)
    (gradient,) = torch.autograd.grad(expected['error'].sum(), student)
    torch.testing.assert_close(student.grad, gradient)
    assert key.grad is None


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    student, teacher, *keys = _inputs(torch.float32)
    half_student = student.detach().to(dtype).requires_grad_()
    half_teacher = teacher.to(dtype)
    wide_student = half_student.detach().float().requires_grad_()
    half = residual_statistics(half_student, half_teacher, *keys, 0.5)
    wide = residual_statistics(wide_student, half_teacher.float(), *keys, 0.5)
    for fast, slow in zip(half, wide, strict=True):
        assert fast.dtype == torch.float32
        torch.testing.assert_close(fast, slow)
    half.error.sum().backward()
    wide.error.sum().backward()
    assert half_student.grad.dtype == dtype
    torch.testing.assert_close(half_student.grad, wide_student.grad.to(dtype))


def test_an_empty_batch_gives_empty_statistics():
    student, teacher, *keys = _inputs(shape=(0, 5, 3, 4))
    values = residual_statistics(student, teacher, *keys, 0.5)
    assert values.error.shape == (0, 12) and values.mean.shape == (0, 5)
    values.error.sum().backward()
    assert student.grad.shape == student.shape
