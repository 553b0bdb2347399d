import pytest
import torch
from mmcv.ops import deform_conv2d, modulated_deform_conv2d
from torch.nn import functional as F

# stride, padding, dilation (each y, x), groups, deformable groups
GEOMETRIES = [
    ((1, 1), (1, 1), (1, 1), 1, 1),
    ((2, 1), (1, 2), (1, 2), 2, 1),
    ((1, 2), (2, 0), (2, 1), 1, 2),
    ((1, 1), (1, 1), (1, 1), 2, 4),
]
CHANNELS, OUTPUTS, KERNEL, SIZE = 4, 6, (3, 2), (7, 8)


def bilinear_zero(plane, y, x):
    """Values of ``[C, H, W]`` at positions ``[...]``, with zeros around the image; ``[C, ...]``."""
    height, width = plane.shape[1:]
    y0, x0 = y.detach().floor(), x.detach().floor()
    total = 0
    for corner_y in (y0, y0 + 1):
        for corner_x in (x0, x0 + 1):
            inside = (corner_y >= 0) & (corner_y < height) & (corner_x >= 0) & (corner_x < width)
            value = plane[
                :, corner_y.clamp(0, height - 1).long(), corner_x.clamp(0, width - 1).long()
            ]
            total = total + value * inside * (1 - (y - corner_y).abs()) * (1 - (x - corner_x).abs())
    return total


def slow_deform_conv(x, offset, mask, weight, bias, geometry):
    """Zhu et al., 2019, Eq. 1: a sum over kernel points, each at its own displaced position."""
    stride, padding, dilation, groups, deform_groups = geometry
    count, channels = x.shape[:2]
    kernel_h, kernel_w = weight.shape[2:]
    out_h, out_w = offset.shape[2:]
    offset = offset.view(count, deform_groups, kernel_h, kernel_w, 2, out_h, out_w)
    if mask is not None:
        mask = mask.view(count, deform_groups, kernel_h, kernel_w, out_h, out_w)
    base_y = torch.arange(out_h).double()[:, None] * stride[0] - padding[0]
    base_x = torch.arange(out_w).double()[None, :] * stride[1] - padding[1]
    per_deform = channels // deform_groups
    outputs = []
    for n in range(count):
        out = 0
        for i in range(kernel_h):
            for j in range(kernel_w):
                sampled = []
                for d in range(deform_groups):
                    part = bilinear_zero(
                        x[n, d * per_deform : (d + 1) * per_deform],
                        base_y + i * dilation[0] + offset[n, d, i, j, 0],
                        base_x + j * dilation[1] + offset[n, d, i, j, 1],
                    )
                    sampled.append(part if mask is None else part * mask[n, d, i, j])
                values = torch.cat(sampled).view(groups, channels // groups, out_h, out_w)
                kernels = weight[:, :, i, j].view(groups, -1, channels // groups)
                out = out + torch.einsum('goc,gchw->gohw', kernels, values).flatten(0, 1)
        outputs.append(out if bias is None else out + bias[:, None, None])
    return torch.stack(outputs)


def operands(geometry, seed=0):
    """Features, offsets, modulation, kernels and biases in float64."""
    generator = torch.Generator().manual_seed(seed)
    stride, padding, dilation, groups, deform_groups = geometry

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    out = [
        (SIZE[k] + 2 * padding[k] - dilation[k] * (KERNEL[k] - 1) - 1) // stride[k] + 1
        for k in range(2)
    ]
    points = deform_groups * KERNEL[0] * KERNEL[1]
    return (
        normal(2, CHANNELS, *SIZE),
        normal(2, 2 * points, *out) * 1.5,
        torch.sigmoid(normal(2, points, *out)),
        normal(OUTPUTS, CHANNELS // groups, *KERNEL),
        normal(OUTPUTS),
    )


def leaves(tensors, dtype=torch.float64, device='cpu'):
    return [t.detach().to(device=device, dtype=dtype).requires_grad_() for t in tensors]


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_second_version_equals_the_slow_form(device, check, geometry, dtype):
    slow = leaves(operands(geometry))
    expected = slow_deform_conv(*slow, geometry)
    gradient = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).double()
    expected_grads = torch.autograd.grad(expected, slow, gradient)

    fast = leaves(operands(geometry), dtype, device)
    actual = modulated_deform_conv2d(*fast, *geometry)
    actual_grads = torch.autograd.grad(actual, fast, gradient.to(actual))

    atol = 1e-12 if dtype == torch.float64 else 5e-5
    check('modulated_deform_conv forward', actual, expected, atol)
    names = ('input', 'offset', 'mask', 'weight', 'bias')
    for name, a, e in zip(names, actual_grads, expected_grads, strict=True):
        check(f'modulated_deform_conv by {name}', a, e, atol)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_first_version_equals_the_slow_form(device, check, geometry, dtype):
    x, offset, _, weight, _ = operands(geometry)
    slow = leaves([x, offset, weight])
    expected = slow_deform_conv(slow[0], slow[1], None, slow[2], None, geometry)
    gradient = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).double()
    expected_grads = torch.autograd.grad(expected, slow, gradient)

    fast = leaves([x, offset, weight], dtype, device)
    actual = deform_conv2d(*fast, *geometry)
    actual_grads = torch.autograd.grad(actual, fast, gradient.to(actual))

    atol = 1e-12 if dtype == torch.float64 else 5e-5
    check('deform_conv forward', actual, expected, atol)
    for name, a, e in zip(('input', 'offset', 'weight'), actual_grads, expected_grads, strict=True):
        check(f'deform_conv by {name}', a, e, atol)


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_without_displacement_it_is_a_convolution(device, check, geometry):
    x, offset, mask, weight, bias = (t.to(device) for t in operands(geometry))
    stride, padding, dilation, groups, _ = geometry
    still, open_mask = torch.zeros_like(offset), torch.ones_like(mask)
    plain = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    check('deform_conv = conv2d', deform_conv2d(x, still, weight, *geometry), plain, 1e-12)
    modulated = modulated_deform_conv2d(x, still, open_mask, weight, bias, *geometry)
    check('modulated = conv2d', modulated, plain + bias[:, None, None], 1e-12)


def test_whole_pixels_shift_the_image(device, check):
    geometry = GEOMETRIES[0]
    x, offset, _, weight, _ = (t.to(device) for t in operands(geometry))
    shift = torch.empty_like(offset)
    shift[:, 0::2], shift[:, 1::2] = 1, -2  # pairs are (y, x)
    # Sampling one row below and two columns to the left is a shift by (-1, +2).
    shifted = F.pad(x, (2, 0, 0, 1))[:, :, 1:, : SIZE[1]]
    actual = deform_conv2d(x, shift, weight, *geometry)
    expected = F.conv2d(shifted, weight, None, padding=1)
    # At the borders the padded convolution sees zeros where the shifted sampling sees pixels.
    check('deform_conv = shift', actual[..., 1:-1, 2:-1], expected[..., 1:-1, 2:-1], 1e-12)


def test_gradcheck():
    geometry = ((1, 1), (0, 0), (1, 1), 1, 1)
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    x, weight, bias = normal(1, 2, 4, 4), normal(2, 2, 2, 2), normal(2)
    offset, mask = normal(1, 8, 3, 3), normal(1, 4, 3, 3)
    assert torch.autograd.gradcheck(
        lambda *args: modulated_deform_conv2d(*args, *geometry), (x, offset, mask, weight, bias)
    )
    assert torch.autograd.gradcheck(
        lambda *args: deform_conv2d(*args, *geometry), (x, offset, weight)
    )


def test_no_bias(device):
    geometry = GEOMETRIES[0]
    x, offset, mask, weight, _ = leaves(operands(geometry), torch.float32, device)
    without = modulated_deform_conv2d(x, offset, mask, weight, None, *geometry)
    zero = modulated_deform_conv2d(
        x, offset, mask, weight, torch.zeros(OUTPUTS, device=device), *geometry
    )
    assert torch.equal(without, zero)
    without.sum().backward()
    assert weight.grad is not None and weight.grad.abs().sum() > 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(device, dtype):
    geometry = GEOMETRIES[1]
    half = leaves(operands(geometry), dtype, device)
    wide = leaves(half, torch.float32, device)
    actual = modulated_deform_conv2d(*half, *geometry)
    expected = modulated_deform_conv2d(*wide, *geometry)
    assert actual.dtype == dtype
    torch.testing.assert_close(actual, expected.to(dtype))
    gradient = torch.ones_like(actual)
    pairs = zip(
        torch.autograd.grad(actual, half, gradient),
        torch.autograd.grad(expected, wide, gradient.float()),
        strict=True,
    )
    for a, e in pairs:
        assert a.dtype == dtype
        torch.testing.assert_close(a, e.to(dtype), atol=0.02, rtol=0.01)


def test_autocast_does_not_lower_the_precision_inside(device):
    geometry = GEOMETRIES[0]
    fast = leaves(operands(geometry), torch.float32, device)
    expected = modulated_deform_conv2d(*fast, *geometry)
    gradient = torch.ones_like(expected)
    expected_grads = torch.autograd.grad(expected, fast, gradient)
    with torch.autocast(device, dtype=torch.bfloat16):
        actual = modulated_deform_conv2d(*fast, *geometry)
        actual_grads = torch.autograd.grad(actual, fast, gradient)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
    for a, e in zip(actual_grads, expected_grads, strict=True):
        torch.testing.assert_close(a, e, atol=1e-4, rtol=1e-5)
