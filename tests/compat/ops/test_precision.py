import pytest
import torch

from dpk_mm.compat.ops.precision import widen


@pytest.mark.parametrize(
    ('dtypes', 'expected'),
    [
        ([torch.float16], torch.float32),
        ([torch.bfloat16, torch.float16], torch.float32),
        ([torch.float16, torch.float32], torch.float32),
        ([torch.float16, torch.float64], torch.float64),
        ([torch.float32, torch.float32], torch.float32),
    ],
)
def test_all_get_the_widest_dtype_and_keep_their_values(dtypes, expected):
    # exact in every one of the dtypes
    values = [torch.tensor([1.0, -0.5, 96.0], dtype=dtype) for dtype in dtypes]
    found = widen(*values)
    assert [x.dtype for x in found] == [expected] * len(dtypes)
    assert all(x.tolist() == [1.0, -0.5, 96.0] for x in found)


def test_gradients_come_back_in_the_dtype_of_the_argument():
    half = torch.tensor([1.0, 2.0], dtype=torch.float16, requires_grad=True)
    wide = torch.tensor([3.0, 4.0], dtype=torch.float64)
    first, second = widen(half, wide)
    (first * second).sum().backward()
    assert half.grad.dtype == torch.float16 and half.grad.tolist() == [3.0, 4.0]


def test_what_is_wide_enough_is_not_copied():
    x = torch.ones(3)
    assert widen(x)[0] is x
