import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dpk_mm.modules.tokens import (
    PatchEmbed,
    PositionEmbedding,
    bicubic_matrix,
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


GRIDS = [(3, 2), (5, 7), (1, 1), (2, 9), (84, 3)]


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('own', [(2, 3), (14, 14), (1, 4)])
def test_interpolation_equals_that_of_torch_in_float64(own, grid):
    torch.manual_seed(0)
    position = PositionEmbedding(4, 'learnable', own).double()
    table = position(grid, CPU)
    assert table.dtype == torch.float64 and table.shape == (1, grid[0] * grid[1], 4)
    planes = position.table.unflatten(1, own).permute(0, 3, 1, 2)
    expected = F.interpolate(planes, size=grid, mode='bicubic', align_corners=False)
    expected = expected.flatten(2).transpose(1, 2)
    torch.testing.assert_close(table, expected, rtol=1e-13, atol=1e-15)
    weight = torch.randn_like(table)
    found, wanted = (
        torch.autograd.grad((x * weight).sum(), position.table)[0] for x in (table, expected)
    )
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)


def test_interpolation_has_a_deterministic_backward():
    """That of ``F.interpolate`` is refused on CUDA under ``randomness=dict(deterministic=True)``."""
    waiting, names = [PositionEmbedding(4, 'learnable', (2, 3))((5, 7), CPU).grad_fn], set()
    while waiting:
        node = waiting.pop()
        names.add(type(node).__name__)
        waiting += [other for other, _ in node.next_functions if other is not None]
    assert 'AccumulateGrad' in names and 'BmmBackward0' in names
    assert not [name for name in names if 'Upsample' in name]


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_interpolation_is_of_full_precision(dtype):
    torch.manual_seed(0)
    position = PositionEmbedding(4, 'learnable', (2, 3))
    expected = position((5, 7), CPU)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(position((5, 7), CPU), expected)
    position.to(dtype)
    found = position((5, 7), CPU)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_matrices_of_interpolation_are_kept_but_are_no_state():
    bicubic_matrix.cache_clear()
    position = PositionEmbedding(4, 'learnable', (2, 3))
    with torch.inference_mode():
        position((5, 7), CPU)
    assert bicubic_matrix.cache_info().misses == 2
    position((5, 7), CPU).sum().backward()  # with matrices that the inference made
    assert bicubic_matrix.cache_info().misses == 2
    assert position.table.grad.sum().item() == pytest.approx(35 * 4)
    assert list(position.state_dict()) == ['table'] and not list(position.buffers())
    copied = copy.deepcopy(position)
    assert torch.equal(copied((5, 7), CPU), position((5, 7), CPU))


class Positions(nn.Module):
    """The embedding of the grid of a feature, as a module of its own."""

    def __init__(self):
        super().__init__()
        self.position = PositionEmbedding(4, 'learnable', (2, 3))

    def forward(self, x):
        return x + self.position((5, 7), x.device)


def test_a_captured_graph_leaves_no_matrix_without_numbers():
    bicubic_matrix.cache_clear()
    model, x = Positions(), torch.randn(1, 35, 4)
    torch.export.export(model, (x,))
    found = model(x)
    assert type(found) is torch.Tensor
    bicubic_matrix.cache_clear()
    assert torch.equal(found, model(x))


def test_positions_of_another_grid_can_be_traced_and_have_a_shape_alone():
    model, x = Positions(), torch.randn(1, 35, 4)
    model(x)  # the matrices are there, and constants of the graph
    traced = torch.jit.trace(model, x)
    assert torch.equal(traced(x), model(x))
    assert model.to('meta')(x.to('meta')).shape == (1, 35, 4)
    bicubic_matrix.cache_clear()
    position = PositionEmbedding(4, 'learnable', (2, 3))
    with torch.device('meta'):
        assert not position((5, 7), CPU).is_meta


@pytest.mark.parametrize('kind', PositionEmbedding.KINDS)
@pytest.mark.parametrize(
    'grid', [0, -1, 14.0, True, None, (14,), (2, 3, 4), (0, 2), (2, -1), (2, 3.0), (2, True), '14']
)
def test_a_grid_that_is_none(kind, grid):
    with pytest.raises(ValueError) as error:
        PositionEmbedding(4, kind, grid)
    assert str(error.value) == (
        f'position_grid must be a whole number >= 1 or (rows, columns), but is {grid!r}.'
    )


def test_a_grid_of_a_config_may_be_a_list():
    assert PositionEmbedding(4, 'learnable', [2, 3]).grid == (2, 3)


def test_unknown_position_embedding():
    with pytest.raises(ValueError, match="position_embedding must be one of .* but is 'rotary'"):
        PositionEmbedding(4, 'rotary')
