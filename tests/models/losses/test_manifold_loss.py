"""Manifold distillation against the relation maps written out pair by pair, in float64."""

import math

import pytest
import torch

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError
from dpk_mm.models.losses import ManifoldLoss


def tokens(seed=0, n=3, length=4, channels=5):
    return torch.randn(n, length, channels, generator=torch.Generator().manual_seed(seed)).double()


def cosine(a, b):
    return (a @ b).item() / math.sqrt((a @ a).item() * (b @ b).item())


def slow(own, given, groups):
    """Mean over groups of patches, and over the pairs in one, of (cos_s - cos_t)^2."""
    gaps = [
        (cosine(own[i], own[j]) - cosine(given[i], given[j])) ** 2
        for group in groups
        for i in group
        for j in group
    ]
    return sum(gaps) / len(gaps)


def only(**weights):
    names = ('patch_weight', 'sample_weight', 'random_weight')
    return dict(dict.fromkeys(names, 0.0), **weights)


@pytest.mark.parametrize(
    ('weight', 'groups'),
    [
        ('patch_weight', [[(i, p) for p in range(4)] for i in range(3)]),
        ('sample_weight', [[(i, p) for i in range(3)] for p in range(4)]),
        # all of them, in any order
        ('random_weight', [[(i, p) for i in range(3) for p in range(4)]]),
    ],
)
def test_a_selection_is_that_of_the_formula(weight, groups):
    own, given = tokens(0), tokens(1, channels=7)
    loss = ManifoldLoss([dict(index=0)], **only(**{weight: 2.0}), patches=12)
    (name,) = loss.parts([own], [given])
    assert weight == f'{name}_weight'
    assert loss([own], [given]).item() == pytest.approx(2 * slow(own, given, groups), rel=1e-9)


def test_stages_are_averaged():
    own, given = [tokens(0), tokens(1)], [tokens(2), tokens(3)]
    one, two = (ManifoldLoss([dict(index=i)], **only(patch_weight=1.0)) for i in (0, 1))
    both = ManifoldLoss([dict(index=0), dict(index=1, weight=3.0)], **only(patch_weight=1.0))
    expected = (one(own, given) + 3 * two(own, given)) / 2
    assert both(own, given).item() == pytest.approx(expected.item(), rel=1e-12)


def test_the_random_patches_are_the_same_on_both_sides_and_as_many_as_asked():
    own, given = tokens(0), tokens(1)
    loss = ManifoldLoss([dict(index=0)], **only(random_weight=1.0), patches=3)
    torch.manual_seed(9)
    value = loss([own], [given])
    torch.manual_seed(9)
    drawn = torch.randperm(12)[:3].tolist()
    groups = [[divmod(k, 4) for k in drawn]]
    assert value.item() == pytest.approx(slow(own, given, groups), rel=1e-9)
    assert loss([own], [own * 3]).item() == pytest.approx(0, abs=1e-12)


def test_class_tokens_are_taken_away():
    own, given = tokens(0), tokens(1)
    more = torch.cat([tokens(2, length=1), own], dim=1)
    loss = ManifoldLoss([dict(index=0)], **only(patch_weight=1.0))
    expected = loss([own], [given])
    torch.testing.assert_close(loss([more], [given]), expected)
    both = torch.cat([tokens(3, length=2), given], dim=1)
    stage = dict(index=0, student_extra_tokens=1, teacher_extra_tokens=2)
    torch.testing.assert_close(
        ManifoldLoss([stage], **only(patch_weight=1.0))([more], [both]), expected
    )


def test_the_cells_of_a_map_are_patches():
    own, given = tokens(0), tokens(1)
    loss = ManifoldLoss([dict(index=0)], **only(patch_weight=1.0, sample_weight=1.0))
    as_map = own.transpose(1, 2).reshape(3, 5, 2, 2)
    torch.testing.assert_close(loss([as_map], [given]), loss([own], [given]))


@pytest.mark.parametrize(
    ('own', 'given', 'found'),
    [
        ((3, 196, 5), (3, 576, 5), '196 tokens of the student and 576 tokens of the teacher'),
        ((3, 5, 14, 14), (3, 577, 5), '196 tokens of the student and 576 tokens of the teacher'),
        ((3, 5, 4, 6), (3, 5, 6, 4), '4x6 cells of the student and 6x4 cells of the teacher'),
        ((3, 5, 4, 4), (3, 5, 4, 5), '4x4 cells of the student and 4x5 cells of the teacher'),
    ],
)
def test_patches_of_two_grids_are_refused(own, given, found):
    """They were cut to one length, so that patches of different places were compared."""
    extra = 1 if given[1] == 577 else 0
    loss = ManifoldLoss([dict(index=0, teacher_extra_tokens=extra)])
    with pytest.raises(
        UsageError, match=f'one grid of patches on both sides, but stage0 has {found}'
    ):
        loss([torch.randn(own)], [torch.randn(given)])


@pytest.mark.parametrize('key', ['student_channels', 'teacher_channels', 'scale'])
def test_keys_that_it_does_not_read_are_refused(key):
    with pytest.raises(
        UsageError, match=rf'stages\[0\] of ManifoldLoss has {key}=2, .* leave it out'
    ):
        ManifoldLoss([{'index': 0, key: 2}])


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match='are all 0; set one'):
        ManifoldLoss([dict(index=0)], **only())
    with pytest.raises(ValueError, match='patch_weight of ManifoldLoss must be a finite number'):
        ManifoldLoss([dict(index=0)], patch_weight=-1)
    with pytest.raises(ValueError, match='patches of ManifoldLoss must be an integer > 0'):
        ManifoldLoss([dict(index=0)], patches=0)
    with pytest.raises(UsageError, match=r'\[N, L, C\] or \[N, C, H, W\] .* found \[3, 5\]'):
        ManifoldLoss([dict(index=0)])([tokens()[:, 0]], [tokens()])
    with pytest.raises(UsageError, match='stage0 has 3 of the student and 2 of the teacher'):
        ManifoldLoss([dict(index=0)])([tokens()], [tokens(n=2)])
