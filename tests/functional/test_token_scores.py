"""Scores against slow loops, and the choice against the probabilities that it promises."""

import itertools
import math

import pytest
import torch

from dpk_mm.functional import (
    activation_scores,
    foreground_scores,
    gap_scores,
    pool_tokens,
    select_by_scores,
    uncertainty_scores,
)


def _patches(height, width, k):
    """The cells of every patch, row by row, without those outside of the map."""
    for top, left in itertools.product(range(0, height, k), range(0, width, k)):
        yield slice(top, min(top + k, height)), slice(left, min(left + k, width))


def _feature(channels, shape=(5, 6), n=2, seed=0):
    return torch.randn(n, channels, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('k', [1, 2, 4])
def test_pooling_counts_the_cells_inside(k):
    feature = _feature(3)
    expected = torch.stack([feature[:, :, y, x].mean((2, 3)) for y, x in _patches(5, 6, k)], 2)
    torch.testing.assert_close(pool_tokens(feature, k), expected)


@pytest.mark.parametrize('k', [1, 2, 4])
def test_activation_is_the_mean_of_absolute_values(k):
    teacher = _feature(3)
    expected = [teacher[:, :, y, x].abs().mean((1, 2, 3)) for y, x in _patches(5, 6, k)]
    torch.testing.assert_close(activation_scores(teacher, k), torch.stack(expected, 1))


@pytest.mark.parametrize('k', [1, 2])
def test_gap_against_loops(k):
    student, teacher = _feature(3), _feature(4, seed=1)
    found = gap_scores(student, teacher, k)
    for i in range(2):
        grams = []
        for feature in (student, teacher):
            tokens = [feature[i, :, y, x].mean((1, 2)) for y, x in _patches(5, 6, k)]
            tokens = torch.stack(tokens).double()
            tokens = tokens - tokens.mean(0)
            gram = tokens @ tokens.T
            grams.append(gram - gram.diag().diag())
        for token, (a, b) in enumerate(zip(*grams, strict=True)):
            expected = 1 - (a @ b / (a.norm() * b.norm())).item()
            assert found[i, token].item() == pytest.approx(expected, abs=1e-5)


def test_gap_knows_no_channels_and_no_scale():
    teacher = _feature(4)
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3))).Q
    student = 1e-4 * torch.einsum('nchw,cd->ndhw', teacher, turn) + 0.7
    assert gap_scores(student.double(), teacher).abs().max() < 1e-2
    student = torch.einsum('nchw,cd->ndhw', teacher, turn)
    assert gap_scores(torch.cat([student, student], 1), teacher).abs().max() < 1e-5


def test_gap_finds_the_token_that_differs():
    teacher = _feature(8)
    student = teacher.clone()
    student[:, :, 2, 3] = -student[:, :, 2, 3]
    assert gap_scores(student, teacher).argmax(1).tolist() == [2 * 6 + 3] * 2


def test_gap_of_maps_of_two_sizes_and_of_features_without_contrast():
    teacher = _feature(3, shape=(4, 6))
    small = teacher[:, :, ::2, ::2]
    resized = torch.nn.functional.interpolate(small, (4, 6), mode='bilinear', align_corners=False)
    torch.testing.assert_close(gap_scores(small, teacher), gap_scores(resized, teacher))
    assert torch.equal(gap_scores(torch.ones(2, 5, 4, 6), teacher), torch.ones(2, 24))
    assert torch.equal(gap_scores(torch.ones(2, 5, 1, 1), torch.ones(2, 3, 1, 1)), torch.ones(2, 1))


def test_gap_is_in_float32_under_autocast():
    student, teacher = _feature(3), _feature(4, seed=1)
    with torch.autocast('cpu', torch.bfloat16):
        found = gap_scores(student, teacher)
    assert torch.equal(found, gap_scores(student, teacher))


def test_foreground_is_the_share_of_the_patch():
    # 32 x 48 pixels on a 4 x 6 map: a cell has 8 pixels. A box from cell (1, 1) up to, and with, (2, 3).
    boxes = [torch.tensor([[8.0, 8.0, 28.0, 20.0]]), torch.zeros(0, 4)]
    found = foreground_scores(boxes, (32, 48), (4, 6), 2)
    cells = torch.zeros(4, 6)
    cells[1:4, 1:5] = 1  # FGD's cells: both ends rounded outwards and included
    expected = [cells[y, x].mean() for y, x in _patches(4, 6, 2)]
    torch.testing.assert_close(found[0], torch.stack(expected))
    assert not found[1].any()


def test_no_boxes_at_all():
    found = foreground_scores([torch.zeros(0, 4)] * 2, (32, 48), (4, 6))
    assert found.shape == (2, 24) and not found.any()


@pytest.mark.parametrize('bias', [False, True])
def test_uncertainty_is_the_entropy_of_the_classifier_at_each_position(bias):
    teacher, g = _feature(3), torch.Generator().manual_seed(4)
    weight = torch.randn(7, 3, generator=g)
    offset = torch.randn(7, generator=g) if bias else None
    found = uncertainty_scores(teacher, weight, offset, 2)
    for i in range(2):
        for token, (rows, columns) in enumerate(_patches(5, 6, 2)):
            entropies = []
            for y, x in itertools.product(range(5)[rows], range(6)[columns]):
                logits = weight @ teacher[i, :, y, x] + (0 if offset is None else offset)
                p = logits.double().softmax(0)
                entropies.append(-(p * p.log()).sum().item() / math.log(7))
            expected = sum(entropies) / len(entropies)
            assert found[i, token].item() == pytest.approx(expected, abs=1e-5)


def test_the_ends_of_uncertainty():
    teacher = torch.zeros(1, 2, 1, 2)
    teacher[0, 0, 0, 1] = 100.0
    found = uncertainty_scores(teacher, torch.eye(2))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0]]))


@pytest.mark.parametrize('weight', [torch.zeros(7, 4), torch.zeros(7)])
def test_a_classifier_of_other_channels(weight):
    with pytest.raises(ValueError, match=r'class_weight of \[classes, 3\].* global pooling'):
        uncertainty_scores(_feature(3), weight)


def test_the_top_share():
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.7], [4.0, 3.0, 2.0, 1.0]])
    assert select_by_scores(scores, 2, 'top').teacher.tolist() == [[1, 3], [0, 1]]
    opposite = select_by_scores(scores, 2, 'top', opposite=True)
    assert opposite.teacher.tolist() == [[0, 2], [2, 3]]
    assert opposite.student.tolist() == [[1, 3], [0, 1]]


@pytest.mark.parametrize('opposite', [False, True])
@pytest.mark.parametrize('select', ['sample', 'top'])
def test_equal_scores_are_decided_by_chance(select, opposite):
    scores = torch.zeros(6000, 5)
    g = torch.Generator().manual_seed(0)
    chosen = select_by_scores(scores, 2, select, opposite, g).as_bool().double().mean(0)
    assert (chosen - 0.4).abs().max() < 5 * (0.24 / 6000) ** 0.5


def _chance_of_each(weights, count):
    """Chance of each token to be among ``count`` drawn one after the other without replacement."""
    chance = [0.0] * len(weights)
    for order in itertools.permutations(range(len(weights)), count):
        p, left = 1.0, sum(weights)
        for token in order:
            p *= weights[token] / left
            left -= weights[token]
        for token in order:
            chance[token] += p
    return torch.tensor(chance, dtype=torch.double)


@pytest.mark.parametrize('opposite', [False, True])
def test_sampling_in_proportion_without_replacement(opposite):
    draws, weights = 40000, [1.0, 2.0, 3.0, 6.0, 0.5]
    mask = select_by_scores(
        torch.tensor(weights).expand(draws, -1),
        2,
        'sample',
        opposite,
        torch.Generator().manual_seed(0),
    )
    expected = _chance_of_each([1 / w for w in weights] if opposite else weights, 2)
    found = mask.as_bool().double().mean(0)
    assert (found - expected).abs().max() < 5 * (0.25 / draws) ** 0.5
    assert mask.teacher.shape == (draws, 2)


def test_scores_of_zero_come_last_and_first_for_the_opposite():
    scores = torch.tensor([[0.0, 1e-3, 0.0, 5.0]]).expand(500, -1)
    g = torch.Generator().manual_seed(0)
    assert select_by_scores(scores, 2, 'sample', generator=g).teacher.unique().tolist() == [1, 3]
    opposite = select_by_scores(scores, 2, 'sample', True, g)
    assert opposite.teacher.unique().tolist() == [0, 2]
    third = select_by_scores(scores, 3, 'sample', generator=g)
    share = third.as_bool()[:, 0].double().mean().item()
    assert abs(share - 0.5) < 5 * (0.25 / 500) ** 0.5


def test_an_unknown_choice():
    with pytest.raises(ValueError, match=r"select must be one of .*'sample', 'top'.* is 'best'"):
        select_by_scores(torch.zeros(1, 2), 1, 'best')
