"""CC against public implementations, its kernels written out, and its embeddings."""

import math

import pytest
import torch
import torch.nn.functional as F

from dpk_mm.errors import UsageError
from dpk_mm.models.losses.cc_loss import CCLoss
from tests.helpers.golden_inputs import check_against_slow, embedded, pooled, value_and_gradient

# of torchdistill, which does not square the norm
UNSQUARED = {'gaussian': (0.01452369, 0.01320054), 'bilinear': (0.03901557, 0.03181526)}


def test_the_code_that_goes_by_this_name():
    """RepDistiller, after its embeddings."""
    found = value_and_gradient(CCLoss(embed_dims=None), *embedded())
    assert found == pytest.approx((16.11296, 3.513967), rel=1e-5)


@pytest.mark.parametrize('kernel', UNSQUARED)
def test_the_kernels_of_torchdistill(kernel):
    student, teacher = (F.normalize(x, dim=1) for x in embedded())
    loss = CCLoss(embed_dims=None, mode='paper', kernel=kernel)
    n, (value, gradient) = len(student), UNSQUARED[kernel]
    found, slope = value_and_gradient(loss, student, teacher)
    assert found == pytest.approx((n * value) ** 2, rel=1e-5)
    # theirs does not normalise, so it has the radial part of the gradient, too
    leaf = student.clone().requires_grad_()
    products = leaf @ leaf.T, teacher @ teacher.T
    if kernel == 'gaussian':
        products = [math.exp(-0.8) * (1 + 0.8 * x + 0.32 * x**2) for x in products]
    norm = (products[0] - products[1]).norm() / n**2
    (theirs,) = torch.autograd.grad(norm, leaf)
    assert (norm.item(), theirs.norm().item()) == pytest.approx((value, gradient), rel=1e-5)
    tangential = theirs - (theirs * student).sum(1, keepdim=True) * student
    assert slope == pytest.approx(2 * value * n**2 * tangential.norm().item(), rel=1e-5)


@pytest.mark.parametrize('kernel', UNSQUARED)
def test_the_formula(kernel):
    def slow(student, teacher):
        def relations(x):
            x = [row / (row * row).sum().sqrt() for row in x]
            dots = torch.stack([torch.stack([(a * b).sum() for b in x]) for a in x])
            if kernel == 'bilinear':
                return dots
            total = 0.0
            for p in range(4):
                total = total + math.exp(-0.6) * 0.6**p / math.factorial(p) * dots**p
            return total

        return ((relations(student) - relations(teacher)) ** 2).sum() / len(student) ** 2

    loss = CCLoss(embed_dims=None, mode='paper', kernel=kernel, gamma=0.3, order=3)
    check_against_slow(loss, slow, *pooled())


def test_the_series_is_that_of_the_gaussian_kernel():
    student = F.normalize(pooled()[0], dim=1)
    found = CCLoss(embed_dims=None, mode='paper', gamma=0.4, order=12)._relations(student)
    torch.testing.assert_close(found, (-0.4 * torch.cdist(student, student) ** 2).exp())


@pytest.mark.parametrize('mode', ['code', 'paper'])
def test_the_embeddings(mode):
    torch.manual_seed(0)
    loss = CCLoss(12, 20, embed_dims=5, mode=mode)
    student, teacher = pooled()
    with torch.no_grad():
        found = loss(student, teacher)
        own = student @ loss.student_embed.weight.T + loss.student_embed.bias
        given = teacher @ loss.teacher_embed.weight.T + loss.teacher_embed.bias
    torch.testing.assert_close(found, CCLoss(embed_dims=None, mode=mode)(own, given))
    assert loss.student_embed.out_features == 5
    assert CCLoss(12, 20).teacher_embed.out_features == 128


@pytest.mark.parametrize('mode', ['code', 'paper'])
def test_in_float64_the_gradient_is_exact(mode):
    """The embeddings were given float32, which a layer in float64 refuses."""
    torch.manual_seed(0)
    loss = CCLoss(12, 20, embed_dims=5, mode=mode).double()
    student, teacher = (x.double() for x in pooled())
    assert loss(student, teacher).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher), student.requires_grad_())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_its_layers_may_be_of_another_precision(dtype):
    torch.manual_seed(0)
    loss = CCLoss(12, 20, embed_dims=5)
    exact = loss(*pooled()).item()
    value = loss.to(dtype)(*pooled())
    assert value.item() == pytest.approx(exact, rel=0.05)
    value.backward()
    assert all(p.grad.isfinite().all() for p in loss.parameters())


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(), 'CCLoss needs student_channels and teacher_channels'),
        (dict(embed_dims=None, mode='text'), "mode of CCLoss must be 'code' or 'paper', but is"),
        (dict(embed_dims=None, kernel='rbf'), "kernel of CCLoss must be 'gaussian' or 'bilinear'"),
        (dict(embed_dims=None, gamma=0.0), 'gamma of CCLoss must be a finite number > 0'),
        (dict(embed_dims=None, order=0), 'order of CCLoss must be at least 1'),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        CCLoss(**options)


def test_what_is_refused():
    student, teacher = pooled()
    with pytest.raises(UsageError, match='width 12 and the teacher.s 20; set embed_dims=128'):
        CCLoss(embed_dims=None)(student, teacher)
    with pytest.raises(
        UsageError, match='student_channels=9, .* width 12; set student_channels=12'
    ):
        CCLoss(9, 20)(student, teacher)
    with pytest.raises(UsageError, match='CCLoss .* needs 2 at least, but the batch has 1'):
        CCLoss(12, 20)(student[:1], teacher[:1])
