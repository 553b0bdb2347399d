import pytest
import torch

from dpk_mm.functional import tokens_to_map


@pytest.mark.parametrize(('extra', 'grid'), [(0, (2, 3)), (2, (3, 2)), (1, None), (0, [1, 5])])
def test_patches_stand_row_by_row(extra, grid):
    rows, columns = grid or (4, 4)
    tokens = torch.randn(2, extra + rows * columns, 3)
    found = tokens_to_map(tokens, extra, grid)
    assert found.shape == (2, 3, rows, columns)
    for y in range(rows):
        for x in range(columns):
            assert torch.equal(found[:, :, y, x], tokens[:, extra + y * columns + x])


def test_extra_tokens_get_no_gradient():
    tokens = torch.randn(1, 6, 2, requires_grad=True)
    tokens_to_map(tokens, 2).sum().backward()
    assert tokens.grad[0].tolist() == [[0, 0]] * 2 + [[1, 1]] * 4


@pytest.mark.parametrize(
    ('length', 'extra', 'grid', 'message'),
    [
        (197, 0, None, r'^extra_tokens is 0, .*has 197 tokens and 197 .* set extra_tokens=1,'),
        (198, 1, None, r'^extra_tokens is 1, .* 198 tokens and 197 .* set extra_tokens=2,'),
        (12, 0, None, r'^extra_tokens is 0, .* 12 tokens .* or grid=\(rows, columns\)'),
        (12, 0, (3, 5), r'^grid is \(3, 5\), 15 patches, but the feature has 12 tokens, 12 '),
        (4, 4, None, r'^extra_tokens is 4, but must be in 0\.\.3: the feature has 4'),
        (4, -1, None, r'^extra_tokens is -1, but must be in 0\.\.3'),
    ],
)
def test_tokens_that_do_not_fit(length, extra, grid, message):
    with pytest.raises(ValueError, match=message):
        tokens_to_map(torch.zeros(1, length, 2), extra, grid)


def test_maps_are_no_tokens():
    with pytest.raises(ValueError, match=r'\[N, L, C\], but the shape is \(1, 2, 3, 4\)'):
        tokens_to_map(torch.zeros(1, 2, 3, 4))
