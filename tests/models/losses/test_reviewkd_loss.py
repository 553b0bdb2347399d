"""ReviewKD against the values of public code."""

import pytest
import torch

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError
from dpk_mm.models.losses import ReviewKDLoss
from dpk_mm.models.losses.reviewkd_loss import hierarchical_context
from tests.helpers.golden_features import check, feats, fill


@pytest.mark.parametrize(
    ('side', 'value', 'gradient'),
    [
        (8, 1.242986, 0.0457334),
        (4, 1.153014, 0.09000691),
        (2, 1.494513, 0.2185718),
        (1, 3.090416, 0.7176833),
    ],
)
def test_hcl_is_that_of_public_code(side, value, gradient):
    shape = (4, 6, side, side)
    student, teacher = feats(shape, shape, seed=8)
    check(hierarchical_context(student, teacher), student, value, gradient)


def averages(x, cells):
    """Averages over windows that reach from one fraction of a side to the next, whole cells."""

    def windows(side):
        return [slice(i * side // cells, -(-(i + 1) * side // cells)) for i in range(cells)]

    rows = [
        torch.stack([x[:, :, r, c].mean((2, 3)) for c in windows(x.shape[3])], dim=2)
        for r in windows(x.shape[2])
    ]
    return torch.stack(rows, dim=2)


@pytest.mark.parametrize(
    ('size', 'levels'),
    [
        ((8, 4), (4, 2, 1)),
        ((4, 2), (2, 1)),
        ((2, 1), (1,)),
        # fewer columns than cells
        ((8, 3), (4, 2, 1)),
        ((2, 8), (1,)),
    ],
)
def test_the_rows_say_which_averages_are_compared(size, levels):
    """The shorter side did; public code asks the height alone."""
    student, teacher = feats((2, 3, *size), (2, 3, *size), seed=8)
    student, teacher = student.double(), teacher.double()
    total, weights = (student - teacher).square().mean(), 1.0
    for place, cells in enumerate(levels, 1):
        gap = averages(student, cells) - averages(teacher, cells)
        total = total + 0.5**place * gap.square().mean()
        weights += 0.5**place
    torch.testing.assert_close(hierarchical_context(student, teacher), total / weights)


def test_two_fused_stages_are_those_of_public_code():
    torch.manual_seed(9)
    deep, shallow = torch.randn(4, 12, 4, 4), torch.randn(4, 6, 8, 8).requires_grad_()
    deep_t, shallow_t = torch.randn(4, 14, 4, 4), torch.randn(4, 10, 8, 8)
    loss = ReviewKDLoss(
        [
            dict(index=0, student_channels=6, teacher_channels=10),
            dict(index=1, student_channels=12, teacher_channels=14),
        ],
        width=8,
    )
    for fusion in loss.fusions.values():
        for first, (conv, norm) in ((0, fusion.reduce), (3, fusion.expand)):
            fill(conv.weight, first)
            fill(norm.weight, first + 1, base=1)
            fill(norm.bias, first + 2)
        if fusion.attention is not None:
            fill(fusion.attention.weight, 6)
            fill(fusion.attention.bias, 7)
    assert loss.fusions['stage1'].attention is None
    check(loss([shallow, deep], [shallow_t, deep_t]), shallow, 2.617794, 0.02161122)


def test_a_pooled_stage_is_the_mean_over_cells():
    torch.manual_seed(0)
    loss = ReviewKDLoss([dict(index=0, student_channels=6, teacher_channels=6, pooled=True)])
    student, teacher = feats()
    fusion = loss.fusions['stage0']
    own = fusion.expand(fusion.reduce(student.mean((2, 3), keepdim=True)))
    expected = (own[..., 0, 0] - teacher.mean((2, 3))).square().mean()
    torch.testing.assert_close(loss([student], [teacher]), expected)


def test_the_width_is_the_deepest_stages_at_most_512():
    sizes = dict(student_channels=16, teacher_channels=16)
    loss = ReviewKDLoss([dict(index=0, **sizes), dict(sizes, index=1, student_channels=700)])
    assert loss.fusions['stage0'].reduce[0].out_channels == 512


def test_the_warm_up_is_a_factor():
    student, teacher = feats()
    stage = dict(index=0, student_channels=6, teacher_channels=6)
    loss = ReviewKDLoss([stage], warmup=20)
    loss.warmup.done = 4
    early = loss([student], [teacher])
    loss.warmup.done = 19
    torch.testing.assert_close(early, 0.25 * loss([student], [teacher]))


def test_one_image_is_refused_where_it_is_pooled_and_trained():
    student, teacher = (x[:1] for x in feats())
    stage = dict(index=0, student_channels=6, teacher_channels=6)
    pooled = ReviewKDLoss([dict(stage, pooled=True)])
    with pytest.raises(UsageError, match='ReviewKDLoss has batch normalisation.*drop_last=True'):
        pooled([student], [teacher])
    for loss in (pooled.eval(), ReviewKDLoss([stage])):
        assert torch.isfinite(loss([student], [teacher]))


def test_one_cell_of_the_teacher_is_refused_where_the_student_has_four():
    loss = ReviewKDLoss([dict(index=0, student_channels=6, teacher_channels=6, scale=2)])
    with pytest.raises(UsageError, match='found a batch of one image and one cell'):
        loss([torch.randn(1, 6, 2, 2)], [torch.randn(1, 6, 1, 1)])
