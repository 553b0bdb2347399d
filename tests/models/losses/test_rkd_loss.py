"""RKD against public implementations and its sums written out."""

import pytest
import torch

from dpk_mm.errors import UsageError
from dpk_mm.models.losses.rkd_loss import RKDLoss
from tests.helpers.golden_inputs import check_against_slow, pooled, value_and_gradient

# (distance, angle): value and norm of the gradient, of mdistiller, RepDistiller and torchdistill
GOLDEN = {
    (25.0, 50.0): (1.924827, 0.8377808),
    (25.0, 0.0): (0.5766453, 0.2627156),
    (0.0, 50.0): (1.348182, 0.5870645),
    (1.0, 2.0): (0.07699308, 0.03351123),
}


def huber(x):
    return 0.5 * x**2 if abs(x) < 1 else abs(x) - 0.5


def slow(distance, angle):
    def formula(student, teacher):
        n = len(student)
        pairs = [(i, j) for i in range(n) for j in range(n) if i != j]

        def distances(x):
            d = {(i, j): ((x[i] - x[j]) ** 2).sum().sqrt() for i, j in pairs}
            mean = sum(d.values()) / len(d)
            return {key: value / mean for key, value in d.items()}

        def angles(x):
            unit = {(i, j): (x[j] - x[i]) / ((x[j] - x[i]) ** 2).sum().sqrt() for i, j in pairs}
            return {
                (i, j, k): (unit[i, j] * unit[i, k]).sum()
                for i, j in pairs
                for k in range(n)
                if k != i
            }

        total = 0.0
        for factor, relation, count in ((distance, distances, n**2), (angle, angles, n**3)):
            own, given = relation(student), relation(teacher)
            total = total + factor * sum(huber(own[key] - given[key]) for key in own) / count
        return total

    return formula


@pytest.mark.parametrize('setting', GOLDEN, ids=str)
def test_public_implementations(setting):
    found = value_and_gradient(RKDLoss(*setting), *pooled())
    assert found == pytest.approx(GOLDEN[setting], rel=1e-5)


def test_the_formula():
    check_against_slow(RKDLoss(3.0, 4.0), slow(3.0, 4.0), *(x[:5] for x in pooled()))


def test_shifted_and_scaled_embeddings_have_the_same_relations():
    student, teacher = pooled()
    expected = RKDLoss()(student, teacher)
    torch.testing.assert_close(RKDLoss()(2 * student + 1000, teacher), expected, rtol=1e-3, atol=0)
    assert RKDLoss()(student, 2 * student).item() == pytest.approx(0, abs=1e-6)


def test_parts_are_those_with_a_factor():
    assert list(RKDLoss(angle=0.0).parts(*pooled())) == ['distance']
    assert list(RKDLoss(distance=0.0).parts(*pooled())) == ['angle']


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(distance=-1.0), 'distance of RKDLoss must be a finite number >= 0, but is -1.0'),
        (dict(angle=float('nan')), 'angle of RKDLoss must be a finite number >= 0, but is nan'),
        (dict(distance=0.0, angle=0.0), 'distance and angle of RKDLoss are both 0'),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        RKDLoss(**options)


def test_two_images_have_no_angle():
    with pytest.raises(UsageError, match='RKDLoss .* needs 3 at least, but the batch has 2'):
        RKDLoss()(*(x[:2] for x in pooled()))
