"""GID's two terms on boxes, against sums over instances and pairs."""

import pytest
import torch

from dpk_mm.models.losses.gid_loss import GIDLoss
from tests.helpers.pyramid import BOXES, check_against, features, samples
from tests.models.loss_parts.test_instances import slow_instances

CELLS = 3


def convolve(layer, x):
    height, width = x.shape[2:]
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    out = layer.bias[:, None, None]
    for dy in range(3):
        for dx in range(3):
            window = padded[:, :, dy : dy + height, dx : dx + width]
            out = out + torch.einsum('oc,nchw->nohw', layer.weight[:, :, dy, dx], window)
    return out


def relative(instances):
    n = len(instances)
    gaps = {
        (i, j): (instances[i] - instances[j]).square().sum().sqrt()
        for i in range(n)
        for j in range(n)
        if i != j
    }
    mean = sum(gaps.values()) / len(gaps)
    return {pair: gap / mean for pair, gap in gaps.items()}


def smooth_l1(x):
    return 0.5 * x**2 if abs(x) < 1 else abs(x) - 0.5


def slow_parts(loss, student, teacher, boxes):
    (layer,) = loss.align.values()
    t = slow_instances(teacher, boxes, CELLS)
    s = slow_instances([convolve(layer, f) for f in student], boxes, CELLS)
    feature = sum(((t[i] - s[i]) ** 2).sum() for i in range(len(t))) / (len(t) * CELLS**2)
    relation = 0.0 * feature
    if len(t) > 2:
        own, given = relative(s), relative(t)
        relation = sum(smooth_l1(own[pair] - given[pair]) for pair in own) / len(own)
    return dict(
        feature=loss.loss_weight * loss.feature_weight * feature,
        relation=loss.loss_weight * loss.relation_weight * relation,
    )


@pytest.mark.parametrize('student_channels', [6, 4])
@pytest.mark.parametrize(
    'boxes', [BOXES, [BOXES[0], []], [BOXES[1], BOXES[1]]], ids=['all', 'one', 'two']
)
def test_value_and_gradients_equal_a_slow_formula(student_channels, boxes):
    torch.manual_seed(0)
    loss = GIDLoss((0, 1, 2), student_channels, 6, cells=CELLS, loss_weight=2.0)
    assert len(loss.align) == 1  # one convolution for all levels

    def slow(loss, student, teacher):
        return sum(slow_parts(loss, student, teacher, boxes).values())

    student, teacher = features(student_channels, 1), features(6, 2)
    check_against(loss, slow, student, teacher, samples(boxes))
    exact = slow_parts(loss.double(), *([f.double() for f in x] for x in (student, teacher)), boxes)
    found = loss.parts([f.double() for f in student], [f.double() for f in teacher], samples(boxes))
    for name, value in found.items():
        torch.testing.assert_close(value, exact[name], rtol=1e-5, atol=1e-7)


def test_no_box_is_a_loss_of_zero_with_a_gradient_for_all_parameters():
    loss = GIDLoss((0, 1, 2), 6, 6)
    student = [f.requires_grad_() for f in features(6, 1)]
    value = loss(student, features(6, 2), samples([[], []]))
    assert value == 0
    value.backward()
    assert all(p.grad is not None and not p.grad.any() for p in loss.parameters())


def test_one_box_twice_has_a_finite_gradient():
    """Two equal instances have the distance 0."""
    box = BOXES[0][0]
    student = [f.requires_grad_() for f in features(6, 1)]
    loss = GIDLoss((0, 1, 2), 6, 6)
    loss(student, features(6, 2), samples([[box, box, BOXES[0][1]], []])).backward()
    assert all(torch.isfinite(f.grad).all() for f in student)
    assert any(f.grad.any() for f in student)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(feature_weight=-1.0), 'feature_weight of GIDLoss must be .* but is -1.0'),
        (dict(relation_weight=float('nan')), 'relation_weight of GIDLoss must be .* but is nan'),
        (dict(levels=[dict(index=0, weight=2.0)]), 'levels of GIDLoss take no weight'),
        (dict(cells=0), 'cells of GIDLoss must be >= 1, but is 0'),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        GIDLoss(**options)
