import math

import pytest
import torch
import torch.nn.functional as F

from dpk_mm.modules.tokens import (
    PatchEmbed,
    PositionEmbedding,
    grid_of,
    sinusoid_table,
    unpatchify,
)

SIZES = [(1, 1, 1), (1, 1, 2), (4, 6, 2), (5, 7, 2), (5, 7, 4), (7, 3, 3), (2, 9, 1), (3, 2, 4)]
CPU = torch.device('cpu')


def _identity_embed(channels, k):
    """A token holds its patch as it is, ordered (C, k, k)."""
    embed = PatchEmbed(channels, channels * k * k, k)
    with torch.no_grad():
        embed.proj.weight.copy_(torch.eye(channels * k * k).view(-1, channels, k, k))
        embed.proj.bias.zero_()
    return embed


@pytest.mark.parametrize(('height', 'width', 'k'), SIZES)
def test_unpatchify_undoes_patches_cut_by_an_identity_projection(height, width, k):
    torch.manual_seed(0)
    feature = torch.randn(2, 3, height, width)
    tokens = _identity_embed(3, k)(feature)
    assert tokens.shape == (2, math.ceil(height / k) * math.ceil(width / k), 3 * k * k)
    torch.testing.assert_close(unpatchify(tokens, (height, width), k), feature)


def test_a_token_is_its_patch_row_by_row_with_zeros_right_and_below():
    torch.manual_seed(0)
    k, feature = 2, torch.randn(1, 2, 3, 5)
    tokens = _identity_embed(2, k)(feature)
    for row in range(2):
        for column in range(3):
            patch = torch.zeros(2, k, k)
            for y in range(k):
                for x in range(k):
                    if row * k + y < 3 and column * k + x < 5:
                        patch[:, y, x] = feature[0, :, row * k + y, column * k + x]
            torch.testing.assert_close(tokens[0, row * 3 + column], patch.flatten())


def test_unpatchify_crops_what_stands_in_the_padding():
    tokens = torch.full((1, 4, 4), 1.0)
    tokens[0, 1] = torch.tensor([2.0, 99, 3, 99])  # right column is padding
    tokens[0, 2] = torch.tensor([4.0, 5, 99, 99])  # bottom row is padding
    tokens[0, 3] = torch.tensor([6.0, 99, 99, 99])
    expected = torch.tensor([[1.0, 1, 2], [1, 1, 3], [4, 5, 6]])
    assert torch.equal(unpatchify(tokens, (3, 3), 2)[0, 0], expected)


@pytest.mark.parametrize(
    ('shape', 'k', 'grid'),
    [((84, 84), 4, (21, 21)), ((42, 42), 2, (21, 21)), ((5, 7), 4, (2, 2)), ((1, 1), 4, (1, 1))],
)
def test_grid(shape, k, grid):
    assert grid_of(shape, k) == grid


@pytest.mark.parametrize('dims', [1, 6, 7])
def test_sinusoid_table_is_the_formula(dims):
    table = sinusoid_table(11, dims)
    assert table.dtype == torch.float32
    for place in range(11):
        for column in range(dims):
            angle = place / 10000 ** (2 * (column // 2) / dims)
            value = math.sin(angle) if column % 2 == 0 else math.cos(angle)
            assert table[place, column].item() == pytest.approx(value, abs=1e-6)


def test_sinusoidal_has_no_parameters_and_follows_the_number_of_tokens():
    position = PositionEmbedding(6, 'sinusoidal')
    assert not list(position.parameters()) and not position.state_dict()
    for rows in [*range(1, 12), 2, 1]:  # more sizes than are kept
        table = position((rows, 3), CPU)
        assert torch.equal(table, sinusoid_table(rows * 3, 6).unsqueeze(0))


def test_learnable_table_as_it_is_on_its_own_grid():
    position = PositionEmbedding(4, 'learnable', (2, 3))
    assert position.table.shape == (1, 6, 4)
    assert position((2, 3), CPU) is position.table
    assert PositionEmbedding(4, 'learnable', 5).table.shape == (1, 25, 4)


@pytest.mark.parametrize('grid', [(3, 2), (5, 7), (1, 1)])
def test_learnable_table_is_interpolated_for_another_grid(grid):
    torch.manual_seed(0)
    position = PositionEmbedding(4, 'learnable', (2, 3))
    table = position(grid, CPU)
    for column in range(4):
        plane = position.table[0, :, column].view(1, 1, 2, 3)
        plane = F.interpolate(plane, size=grid, mode='bicubic', align_corners=False)
        torch.testing.assert_close(table[0, :, column], plane.flatten())
    table.square().sum().backward()
    assert position.table.grad.abs().sum() > 0


def test_unknown_position_embedding():
    with pytest.raises(ValueError, match="position_embedding must be one of .* but is 'rotary'"):
        PositionEmbedding(4, 'rotary')
