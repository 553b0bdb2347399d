"""The two halves of a mask: disjoint, complete, exact in count, uniform."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpk_mm.functional import (
    TokenMask,
    mask_by_scores,
    num_masked_tokens,
    random_mask,
    stitch_tokens,
    take_tokens,
    tokens_to_cells,
    unmasked,
)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 4),
    tokens=st.integers(1, 50),
    ratio=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_a_mask_splits_the_tokens_and_stitching_puts_them_back(batch, tokens, ratio, seed):
    g = torch.Generator().manual_seed(seed)
    mask = random_mask(batch, tokens, ratio, generator=g)
    count = num_masked_tokens(tokens, ratio)
    assert abs(count - tokens * ratio) <= (0.5 if 1 <= tokens * ratio <= tokens - 1 else 1)
    assert mask.teacher.shape == (batch, count)
    assert mask.student.shape == (batch, tokens - count)
    assert mask.num_tokens == tokens
    for s, t in zip(mask.student.tolist(), mask.teacher.tolist(), strict=True):
        assert s == sorted(s) and t == sorted(t)
        assert sorted(s + t) == list(range(tokens))

    student = torch.randn(batch, tokens, 3, generator=g)
    teacher = torch.randn(batch, tokens, 3, generator=g)
    hybrid = stitch_tokens(
        take_tokens(student, mask.student), take_tokens(teacher, mask.teacher), mask
    )
    assert torch.equal(hybrid, torch.where(mask.as_bool().unsqueeze(-1), teacher, student))


@pytest.mark.parametrize(
    ('tokens', 'ratio', 'count'),
    [
        *[(10, 0.0, 0), (10, 1.0, 10), (10, 0.06, 1), (10, 0.16, 2), (7, 0.5, 4), (49, 0.95, 47)],
        # a token is left to each side
        *[(10, 0.04, 1), (10, 0.95, 9), (4, 0.95, 3), (4, 0.1, 1), (49, 0.999, 48), (2, 1e-9, 1)],
        # of a single one, or none, nothing can be
        *[(1, 0.0, 0), (1, 0.1, 0), (1, 0.95, 1), (1, 1.0, 1), (0, 0.5, 0)],
    ],
)
def test_counts(tokens, ratio, count):
    assert num_masked_tokens(tokens, ratio) == count


@pytest.mark.parametrize('ratio', [-0.01, 1.01, float('nan'), float('inf')])
def test_a_ratio_outside_of_its_range(ratio):
    with pytest.raises(ValueError, match=r'mask_ratio must be in \[0, 1\]'):
        random_mask(2, 10, ratio)


def test_the_ends_take_everything_from_one_side():
    tokens = torch.randn(2, 10, 4)
    none, everything = random_mask(2, 10, 0.0), random_mask(2, 10, 1.0)
    assert none.teacher.shape == (2, 0) and not none.as_bool().any()
    assert everything.student.shape == (2, 0) and everything.as_bool().all()
    nothing = tokens[:, :0]
    assert torch.equal(stitch_tokens(tokens, nothing, none), tokens)
    assert torch.equal(stitch_tokens(nothing, tokens, everything), tokens)


def test_every_sample_has_its_own_mask_and_the_generator_decides():
    masks = [random_mask(8, 64, 0.5, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert len({tuple(row) for row in masks[0].teacher.tolist()}) == 8
    assert torch.equal(masks[0].teacher, masks[1].teacher)
    assert not torch.equal(masks[0].teacher, masks[2].teacher)


def test_every_token_and_every_pair_is_masked_equally_often():
    draws, tokens, ratio = 20000, 12, 0.25
    mask = random_mask(draws, tokens, ratio, generator=torch.Generator().manual_seed(0))
    chosen = mask.as_bool().double()
    p = 3 / 12
    spread = 5 * (p * (1 - p) / draws) ** 0.5
    assert (chosen.mean(0) - p).abs().max() < spread
    pairs = chosen.T @ chosen / draws
    p = 3 * 2 / (12 * 11)
    off = pairs[~torch.eye(tokens, dtype=torch.bool)]
    assert (off - p).abs().max() < 5 * (p * (1 - p) / draws) ** 0.5


def test_the_highest_scores_go_to_the_teacher():
    mask = mask_by_scores(torch.tensor([[0.1, 0.9, 0.5, 0.7], [4.0, 3.0, 2.0, 1.0]]), 2)
    assert mask.teacher.tolist() == [[1, 3], [0, 1]]
    assert mask.student.tolist() == [[0, 2], [2, 3]]


def test_stitching_by_hand_and_its_gradient():
    mask = TokenMask(torch.tensor([[0, 3]]), torch.tensor([[1, 2]]))
    student = torch.tensor([[[1.0], [2.0]]], requires_grad=True)
    teacher = torch.tensor([[[10.0], [20.0]]], requires_grad=True)
    hybrid = stitch_tokens(student, teacher, mask)
    assert hybrid.flatten().tolist() == [1, 10, 20, 2]
    (hybrid.flatten() * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert student.grad.flatten().tolist() == [1, 4]
    assert teacher.grad.flatten().tolist() == [2, 3]


def test_the_mask_that_masks_nothing():
    mask = unmasked(3, 5)
    assert mask.student.tolist() == [[0, 1, 2, 3, 4]] * 3
    assert mask.teacher.shape == (3, 0) and not mask.as_bool().any()


def test_cells_of_tokens():
    chosen = torch.tensor([[True, False, False, True, True, False]])  # 2 x 3 patches of 2 x 2
    cells = tokens_to_cells(chosen, (3, 5), 2)
    expected = [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]
    assert cells.int().tolist() == [[expected]]
    assert cells.dtype == torch.bool
