import math

import pytest
import torch

from dpk_mm.functional.windows import merge_windows, split_windows, windows_of


@pytest.mark.parametrize('patch_size', [1, 2, 4])
@pytest.mark.parametrize(
    'shape', [(1, 1), (21, 21), (84, 84), (84, 53), (22, 7), (300, 5), (5, 999)]
)
@pytest.mark.parametrize('max_tokens', [1, 9, 441])
def test_windows_cover_the_map_and_keep_the_limit(shape, patch_size, max_tokens):
    windows = windows_of(shape, patch_size, max_tokens)
    tokens = math.prod(-(-side // patch_size) for side in shape)
    if windows is None:
        assert tokens <= max_tokens
        return
    assert tokens > max_tokens
    assert windows.height % patch_size == windows.width % patch_size == 0
    assert windows.height * windows.width <= max_tokens * patch_size**2
    for side, count, length in zip(shape, windows[:2], windows[2:], strict=True):
        # no window lies beyond the map as a whole, and less than one token a window is padding
        assert side <= count * length < side + (count + 1) * patch_size
        assert (count - 1) * length < side


def test_windows_are_the_slices_of_the_map():
    x = torch.rand(2, 3, 7, 10)
    windows = windows_of((7, 10), 2, 6)
    assert windows == (2, 3, 4, 4)
    parts = split_windows(x, windows)
    assert parts.shape == (12, 3, 4, 4)
    assert torch.equal(parts[0], x[0, :, :4, :4])
    assert torch.equal(
        parts[6 + 4],
        x[1, :, 4:8, 4:8].new_zeros(3, 4, 4).index_copy(1, torch.arange(3), x[1, :, 4:7, 4:8]),
    )
    assert parts[5, :, 3].count_nonzero() == parts[5, :, :, 2:].count_nonzero() == 0
    assert torch.equal(merge_windows(parts, windows, (7, 10)), x)


def test_gradients_pass_once():
    x = torch.rand(1, 2, 9, 9, requires_grad=True)
    windows = windows_of((9, 9), 1, 16)
    merge_windows(split_windows(x, windows), windows, (9, 9)).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
