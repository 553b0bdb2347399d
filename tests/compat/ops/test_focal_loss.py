import pytest
import torch
from mmcv.ops import sigmoid_focal_loss

# -1 and 4 are both outside of the four classes.
TARGET = [0, 3, 4, 1, -1, 2]


def logits(dtype=torch.float64):
    return (torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).double() * 3).to(dtype)


def slow_focal_loss(x, target, gamma, alpha, weight=None):
    """Lin et al., 2017, Eq. 5, one element at a time."""
    rows = []
    for row, label in zip(x, target, strict=True):
        losses = []
        for c, logit in enumerate(row):
            p = torch.sigmoid(logit)
            p_t, alpha_t = (p, alpha) if c == label else (1 - p, 1 - alpha)
            loss = -alpha_t * (1 - p_t) ** gamma * torch.log(p_t)
            if weight is not None and 0 <= label < len(weight):
                loss = loss * weight[label]
            losses.append(loss)
        rows.append(torch.stack(losses))
    return torch.stack(rows)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('weight', [None, [3.0, 0.5, 2.0, 1.5]])
@pytest.mark.parametrize('gamma, alpha', [(2.0, 0.25), (0.0, 0.5), (1.5, 0.75)])
def test_forward_and_backward_equal_the_formula(device, check, dtype, weight, gamma, alpha):
    x = logits().requires_grad_()
    expected = slow_focal_loss(x, TARGET, gamma, alpha, weight)
    (expected_grad,) = torch.autograd.grad(expected.sum(), x)

    y = logits(dtype).to(device).requires_grad_()
    target = torch.tensor(TARGET, device=device)
    class_weight = None if weight is None else torch.tensor(weight, dtype=dtype, device=device)
    actual = sigmoid_focal_loss(y, target, gamma, alpha, class_weight, 'none')
    (actual_grad,) = torch.autograd.grad(actual.sum(), y)

    atol = 1e-13 if dtype == torch.float64 else 5e-6
    check('sigmoid_focal_loss forward', actual, expected, atol)
    check('sigmoid_focal_loss backward', actual_grad, expected_grad, atol)


def test_reductions(device):
    y = logits(torch.float32).to(device)
    target = torch.tensor(TARGET, device=device)
    full = sigmoid_focal_loss(y, target, 2.0, 0.25, None, 'none')
    total = sigmoid_focal_loss(y, target, 2.0, 0.25, None, 'sum')
    mean = sigmoid_focal_loss(y, target, 2.0, 0.25, None, 'mean')
    torch.testing.assert_close(total, full.sum())
    torch.testing.assert_close(mean, full.sum() / 6)


def test_extreme_logits_stay_finite(device):
    y = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], device=device, requires_grad=True)
    target = torch.tensor([0, 0], device=device)
    loss = sigmoid_focal_loss(y, target, 2.0, 0.25, None, 'none')
    (gradient,) = torch.autograd.grad(loss.sum(), y)
    # Right and sure: nothing. Wrong and sure: alpha_t * |logit|, of slope alpha_t.
    torch.testing.assert_close(loss, torch.tensor([[0.0, 0.0], [50.0, 150.0]], device=device))
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 0.0], [-0.25, 0.75]], device=device))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(device, dtype):
    y = logits(dtype).to(device).requires_grad_()
    target = torch.tensor(TARGET, device=device)
    actual = sigmoid_focal_loss(y, target, 2.0, 0.25, None, 'none')
    wide = y.detach().float().requires_grad_()
    expected = sigmoid_focal_loss(wide, target, 2.0, 0.25, None, 'none')
    assert actual.dtype == dtype
    assert torch.equal(actual, expected.to(dtype))
    (actual_grad,) = torch.autograd.grad(actual.sum(), y)
    (expected_grad,) = torch.autograd.grad(expected.sum(), wide)
    assert torch.equal(actual_grad, expected_grad.to(dtype))
