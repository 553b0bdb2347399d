"""SP against public implementations and its sum written out."""

import pytest
import torch

from dpk_mm.errors import UsageError
from dpk_mm.models.losses.sp_loss import SPLoss
from tests.helpers.golden_inputs import check_against_slow, feats_channels, value_and_gradient


def slow(student, teacher):
    def similarity(x):
        n = len(x)
        g = torch.stack([torch.stack([(x[i] * x[j]).sum() for j in range(n)]) for i in range(n)])
        return torch.stack([row / (row * row).sum().sqrt() for row in g])

    difference = similarity(student) - similarity(teacher)
    return (difference**2).sum() / len(student) ** 2


def test_public_implementations():
    """mdistiller and RepDistiller."""
    found = value_and_gradient(SPLoss(), *feats_channels())
    assert found == pytest.approx((0.00188844, 0.002215835), rel=1e-5)


def test_the_formula():
    check_against_slow(SPLoss(), slow, *feats_channels())


def test_stages_are_summed_and_sizes_may_differ():
    first, last = feats_channels(), (torch.randn(4, 3, 2, 2), torch.randn(4, 5, 7, 7))
    found = SPLoss(index=(0, 1))([first[0], last[0]], [first[1], last[1]])
    torch.testing.assert_close(found, SPLoss()(*first) + SPLoss()(*last))
    torch.testing.assert_close(SPLoss(index=-1)([first[0], last[0]], last[1]), SPLoss()(*last))


def test_what_is_refused():
    student, teacher = feats_channels()
    with pytest.raises(
        UsageError, match=r'index 2, but the record of the student gives 1 .* 0\.\.0'
    ):
        SPLoss(index=2)([student], [teacher])
    with pytest.raises(UsageError, match='SPLoss .* needs 2 at least, but the batch has 1'):
        SPLoss()(student[:1], teacher[:1])
    with pytest.raises(ValueError, match='index of SPLoss must name a feature'):
        SPLoss(index=())
