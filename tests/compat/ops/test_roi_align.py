import math

import pytest
import torch
from mmcv.ops import roi_align

ROIS = [
    [0, 2.0, 3.0, 17.3, 12.9],
    [1, -3.1, 4.2, 9.9, 30.4],  # partly outside
    [1, 0.0, 0.0, 1.0, 1.5],
    [0, 8.2, 8.4, 8.3, 8.6],  # less than a pixel
    [1, 40.0, 40.0, 60.0, 70.0],  # wholly outside
]


def bilinear(plane, y, x):
    """Value of ``[C, H, W]`` between pixels; zero further than one pixel outside."""
    height, width = plane.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return plane.new_zeros(plane.shape[0])
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    fy, fx = y - y0, x - x0
    top = plane[:, y0, x0] * (1 - fx) + plane[:, y0, x1] * fx
    bottom = plane[:, y1, x0] * (1 - fx) + plane[:, y1, x1] * fx
    return top * (1 - fy) + bottom * fy


def slow_roi_align(features, rois, size, scale, sampling_ratio, aligned):
    """He et al., 2017, Sec. 3: the mean of samples on a regular grid in each bin."""
    out_h, out_w = size
    shift = 0.5 if aligned else 0.0
    pooled = []
    for batch, *box in rois:
        x1, y1, x2, y2 = (value * scale - shift for value in box)
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1.0), max(height, 1.0)
        rows = sampling_ratio or math.ceil(height / out_h)
        columns = sampling_ratio or math.ceil(width / out_w)
        bins = []
        for i in range(out_h):
            for j in range(out_w):
                samples = [
                    bilinear(
                        features[int(batch)],
                        y1 + (i + (k + 0.5) / rows) * height / out_h,
                        x1 + (j + (m + 0.5) / columns) * width / out_w,
                    )
                    for k in range(rows)
                    for m in range(columns)
                ]
                bins.append(torch.stack(samples).mean(dim=0))
        pooled.append(torch.stack(bins, dim=1).view(-1, out_h, out_w))
    return torch.stack(pooled)


def features(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 9, 11, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_forward_and_backward_equal_the_slow_form(device, check, dtype, aligned, sampling_ratio):
    setting = ((3, 2), 0.5, sampling_ratio, 'avg', aligned)
    x = features().requires_grad_()
    expected = slow_roi_align(x, ROIS, (3, 2), 0.5, sampling_ratio, aligned)
    gradient = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).double()
    (expected_grad,) = torch.autograd.grad(expected, x, gradient)

    y = features(dtype).to(device).requires_grad_()
    actual = roi_align(y, torch.tensor(ROIS, dtype=dtype, device=device), *setting)
    (actual_grad,) = torch.autograd.grad(actual, y, gradient.to(actual))

    atol = 1e-12 if dtype == torch.float64 else 5e-6
    check('roi_align forward', actual, expected, atol)
    check('roi_align backward', actual_grad, expected_grad, atol)
    assert actual[4].eq(0).all() and actual[:4].ne(0).any()


def test_gradcheck():
    rois = torch.tensor(ROIS[:3], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda x: roi_align(x, rois, (2, 2), 0.5, 0, 'avg', True), features().requires_grad_()
    )


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(device, check, dtype):
    x = features(dtype).to(device).requires_grad_()
    wide = x.detach().float().requires_grad_()
    rois = torch.tensor(ROIS, device=device).to(dtype)
    setting = ((3, 2), 0.5, 0, 'avg', True)
    actual = roi_align(x, rois, *setting)
    expected = roi_align(wide, rois.float(), *setting)
    assert actual.dtype == dtype
    assert torch.equal(actual, expected.to(dtype))
    gradient = torch.ones_like(actual)
    (actual_grad,) = torch.autograd.grad(actual, x, gradient)
    (expected_grad,) = torch.autograd.grad(expected, wide, gradient.float())
    assert actual_grad.dtype == dtype
    check('roi_align backward', actual_grad, expected_grad, 0.02)


def test_an_output_gradient_may_be_strided(device):
    x = features(torch.float32).to(device).requires_grad_()
    rois = torch.tensor(ROIS, device=device)
    out = roi_align(x, rois, (2, 2), 0.5, 2, 'avg', True)
    (expected,) = torch.autograd.grad(out.sum(), x, retain_graph=True)
    (actual,) = torch.autograd.grad(out, x, torch.ones(1, device=device).expand(out.shape))
    assert torch.equal(actual, expected)


def test_no_regions(device):
    x = features(torch.float32).to(device).requires_grad_()
    out = roi_align(x, torch.zeros(0, 5, device=device), (7, 7), 0.5, 0, 'avg', True)
    assert out.shape == (0, 3, 7, 7)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(gradient, torch.zeros_like(x))


def test_maximum_pooling_is_refused():
    with pytest.raises(NotImplementedError, match="pool_mode='max' needs a compiled mmcv"):
        roi_align(features(torch.float32), torch.tensor(ROIS), (2, 2), 0.5, 0, 'max', True)
