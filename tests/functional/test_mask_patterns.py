"""Masks with a shape: exact in count, and of the shape that they promise."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_mm.functional import block_mask, grid_mask, num_masked_tokens, random_mask


def _split_is_right(mask, batch, length, ratio):
    count = num_masked_tokens(length, ratio)
    assert abs(count - length * ratio) <= (0.5 if 1 <= length * ratio <= length - 1 else 1)
    assert mask.teacher.shape == (batch, count) and mask.student.shape == (batch, length - count)
    for student, teacher in zip(mask.student.tolist(), mask.teacher.tolist(), strict=True):
        assert sorted(student + teacher) == list(range(length))
        assert student == sorted(student) and teacher == sorted(teacher)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 4),
    grid=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    ratio=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_every_sample_has_exactly_the_share_that_is_asked(batch, grid, ratio, seed):
    g = torch.Generator().manual_seed(seed)
    length = grid[0] * grid[1]
    _split_is_right(block_mask(batch, grid, ratio, generator=g), batch, length, ratio)
    _split_is_right(grid_mask(batch, grid, ratio), batch, length, ratio)


def test_blocks_of_a_thin_map():
    _split_is_right(block_mask(3, (1, 7), 0.5), 3, 7, 0.5)
    _split_is_right(block_mask(3, (1, 1), 1.0), 3, 1, 1.0)


def _equal_neighbours(mask, grid):
    """Share of neighbouring pairs of tokens that the same side gives."""
    m = mask.as_bool().view(-1, *grid)
    pairs = [m[:, 1:] == m[:, :-1], m[:, :, 1:] == m[:, :, :-1]]
    return torch.cat([p.flatten() for p in pairs]).double().mean().item()


def _components(mask):
    """4-connected regions of a boolean map, by flood fill."""
    left = {(y, x) for y, row in enumerate(mask.tolist()) for x, on in enumerate(row) if on}
    count = 0
    while left:
        count += 1
        stack = [left.pop()]
        while stack:
            y, x = stack.pop()
            for cell in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if cell in left:
                    left.remove(cell)
                    stack.append(cell)
    return count


def test_blocks_are_few_connected_regions():
    g = torch.Generator().manual_seed(0)
    grid = (14, 14)
    blocks = block_mask(64, grid, 0.4, generator=g)
    random = random_mask(64, 196, 0.4, generator=g)
    regions = [_components(m) for m in blocks.as_bool().view(-1, *grid)]
    # BEiT's smallest rectangle has 16 tokens: 78 of them cannot be more than five regions, and the
    # last one, cut, may be a sixth
    assert max(regions) <= 6 and min(regions) == 1
    assert _equal_neighbours(blocks, grid) > 0.85
    assert _equal_neighbours(random, grid) == pytest.approx(0.52, abs=0.02)


def test_one_block_is_a_rectangle_of_the_asked_aspect_ratio():
    g = torch.Generator().manual_seed(0)
    # as large as all that is to be masked: 36 of 144 tokens, one rectangle before the cut
    square = block_mask(32, (12, 12), 0.25, generator=g, min_area=0.25, aspect_ratio=1.0)
    for mask in square.as_bool().view(-1, 12, 12):
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        assert len(rows) == len(columns) == 6
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    long = block_mask(64, (12, 12), 0.25, generator=g, min_area=0.25, aspect_ratio=0.25)
    spans = [
        (m.any(1).sum().item() / m.any(0).sum().item()) for m in long.as_bool().view(-1, 12, 12)
    ]
    assert min(spans) < 0.5 and max(spans) > 2


def test_blocks_differ_between_samples_and_the_generator_decides():
    masks = [
        block_mask(8, (8, 8), 0.5, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)
    ]
    assert len({tuple(row) for row in masks[0].teacher.tolist()}) == 8
    assert torch.equal(masks[0].teacher, masks[1].teacher)
    assert not torch.equal(masks[0].teacher, masks[2].teacher)


def test_blocks_prefer_no_side():
    chosen = (
        block_mask(6000, (8, 8), 0.5, generator=torch.Generator().manual_seed(0))
        .as_bool()
        .view(-1, 8, 8)
        .double()
        .mean(0)
    )
    assert chosen.mean() == 0.5
    for mirrored in (chosen.flip(0), chosen.flip(1), chosen.T):
        assert (chosen - mirrored).abs().max() < 5 * (2 * 0.25 / 6000) ** 0.5


@pytest.mark.parametrize('option', [dict(min_area=0.0), dict(min_area=1.1), dict(aspect_ratio=0)])
def test_block_options_out_of_range(option):
    (name, value) = next(iter(option.items()))
    with pytest.raises(ValueError, match=rf'{name} of a block mask .* is {value}'):
        block_mask(1, (4, 4), 0.5, **option)


@pytest.mark.parametrize('grid', [(8, 8), (4, 6), (14, 14)])
def test_a_grid_keeps_one_in_four_of_every_two_by_two(grid):
    kept = ~grid_mask(2, grid, 0.75).as_bool().view(2, *grid)
    expected = torch.zeros(grid, dtype=torch.bool)
    expected[::2, ::2] = True
    assert torch.equal(kept, expected.expand(2, -1, -1))


def test_other_ratios_of_the_grid_are_regular_too():
    quarter = grid_mask(1, (8, 8), 0.25).as_bool().view(8, 8)
    assert quarter[::2, 1::2].all() and quarter.sum() == 16
    half = grid_mask(1, (8, 8), 0.5).as_bool().view(8, 8)
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing='ij')
    assert torch.equal(half, (y + x) % 2 == 1)
    sixteenth = grid_mask(1, (8, 8), 1 / 16).as_bool().view(4, 2, 4, 2)  # one in every 4 x 4
    assert sixteenth.view(2, 4, 2, 4).sum((1, 3)).tolist() == [[1, 1], [1, 1]]


def test_a_higher_ratio_masks_more_of_the_grid_and_nothing_less():
    before = torch.zeros(35, dtype=torch.bool)
    for count in range(36):
        now = grid_mask(1, (5, 7), count / 35).as_bool()[0]
        assert now.sum() == count and (now | ~before).all()
        before = now


def test_a_grid_larger_than_the_map():
    with pytest.raises(ValueError, match=r"mask is 'grid'.* 2 x 2 tokens, but the map has 1 x 5"):
        grid_mask(2, (1, 5), 0.5)


@pytest.mark.parametrize('draw', [block_mask, grid_mask])
@pytest.mark.parametrize('ratio', [-0.1, 1.1, float('nan')])
def test_a_ratio_outside_of_its_range(draw, ratio):
    with pytest.raises(ValueError, match=r'mask_ratio must be in \[0, 1\]'):
        draw(2, (4, 4), ratio)
