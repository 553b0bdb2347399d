"""AGNL against its formula written out image by image and position by position, and against mmrazor's three pieces."""

import math

import pytest
import torch
from mmrazor.models.architectures.connectors import FBKDStudentConnector, FBKDTeacherConnector
from mmrazor.models.losses import FBKDLoss

from dpk_mm.errors import UsageError
from dpk_mm.models.losses.agnl_loss import AGNL_WEIGHTS, AGNLLoss
from tests.helpers.pyramid import check_against, features


def positions(x, tau):
    """Attention of every image's positions."""
    n, _, h, w = x.shape
    result = torch.zeros(n, 1, h, w, dtype=x.dtype)
    for i in range(n):
        exp = torch.exp(x[i].detach().abs().mean(0) / tau)
        result[i, 0] = h * w * exp / exp.sum()
    return result


def channels(x, tau):
    n, c = x.shape[:2]
    result = torch.zeros(n, c, 1, 1, dtype=x.dtype)
    for i in range(n):
        exp = torch.exp(x[i].detach().abs().mean((1, 2)) / tau)
        result[i, :, 0, 0] = c * exp / exp.sum()
    return result


def conv1x1(layer, x):
    y = torch.einsum('oc,nchw->nohw', layer.weight[:, :, 0, 0], x)
    return y if layer.bias is None else y + layer.bias[:, None, None]


def conv3x3(layer, x):
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    h, w = x.shape[2:]
    total = layer.bias[:, None, None]
    for dy in range(3):
        for dx in range(3):
            total = total + layer.weight[0, 0, dy, dx] * padded[:, :, dy : dy + h, dx : dx + w]
    return total


def pooled(x, side):
    h, w = x.shape[2] // side, x.shape[3] // side
    cells = [
        x[:, :, i * side : (i + 1) * side, j * side : (j + 1) * side].amax((2, 3))
        for i in range(h)
        for j in range(w)
    ]
    return torch.stack(cells, dim=2)


def non_local(block, x):
    side = min(block.pool, *x.shape[2:])
    theta = conv1x1(block.theta, x)
    phi, g = pooled(conv1x1(block.phi, x), side), pooled(conv1x1(block.g, x), side)
    y = torch.zeros_like(theta)
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            for p in range(phi.shape[2]):
                similar = (theta[:, :, i, j] * phi[:, :, p]).sum(1, keepdim=True)
                y[:, :, i, j] = y[:, :, i, j] + similar * g[:, :, p] / phi.shape[2]
    z = conv1x1(block.out, y)
    mean = z.mean((0, 2, 3), keepdim=True)
    variance = ((z - mean) ** 2).mean((0, 2, 3), keepdim=True)
    z = (z - mean) / (variance + block.norm.eps).sqrt()
    return x + z * block.norm.weight[:, None, None] + block.norm.bias[:, None, None]


def slow(loss, student, teacher):
    total = 0.0
    for level in loss.levels:
        s, t = student[level.student], teacher[level.teacher]
        own = loss.trained[str(level.student)]
        adapted = conv1x1(own.feature, s)
        mask = (positions(s, loss.tau) + positions(t, loss.tau)) / 2
        if loss.mode == 'paper':
            mask = mask * (channels(adapted, loss.tau) + channels(t, loss.tau)) / 2
        feature = ((t - adapted) ** 2 * mask).sum().sqrt()
        linear = s.mean((2, 3)) @ own.channel.weight.T + own.channel.bias
        channel = ((t.mean((2, 3)) - linear) ** 2).sum().sqrt()
        spatial = conv3x3(own.spatial, s.mean(1, keepdim=True))
        spatial = ((t.mean(1, keepdim=True) - spatial) ** 2).sum().sqrt()
        related = conv1x1(own.relation, non_local(own.student, s))
        relation = ((non_local(own.teacher, t) - related) ** 2).sum().sqrt()
        term = loss.weights['feature'] * feature + loss.weights['attention'] * (channel + spatial)
        total = total + level.weight * (term + loss.weights['relation'] * relation)
    return loss.loss_weight * total


def build(*args, **kwargs):
    """With non-local blocks that are no identity."""
    torch.manual_seed(0)
    loss = AGNLLoss(*args, **kwargs)
    for own in loss.trained.values():
        for block in (own.student, own.teacher):
            torch.nn.init.uniform_(block.norm.weight, 0.5, 1.5)
            for conv in (block.theta, block.phi, block.g, block.out):
                torch.nn.init.normal_(conv.weight, std=0.5)
    return loss


@pytest.mark.parametrize('student_channels', [6, 4])
@pytest.mark.parametrize('mode', ['code', 'paper'])
def test_value_and_gradients_equal_a_slow_formula(student_channels, mode):
    levels = (0, dict(index=1, weight=2.5), 2)
    weights = dict(feature=0.3, attention=0.5, relation=0.7)
    loss = build(levels, student_channels, 6, weights, 0.4, mode, (3, 2), (2, 3), loss_weight=3.0)
    assert loss.trained['0'].student.theta.out_channels == student_channels // 2
    assert loss.trained['2'].student.theta.out_channels == student_channels // 3
    check_against(loss, slow, features(student_channels, 1), features(6, 2), atol=1e-4)


def test_it_is_the_sum_of_mmrazors_pieces():
    student, teacher = features(8, 1), features(8, 2)
    # mmrazor pools by 2 before it pools by maxpool_stride
    loss = build((0, 1), 8, 8, pools=(8, 4), reductions=(4, 2))
    total = 0.0
    for index, pool, reduction in ((0, 4, 4), (1, 2, 2)):
        options = dict(in_channels=8, reduction=reduction, sub_sample=True, maxpool_stride=pool)
        sides = FBKDStudentConnector(**options), FBKDTeacherConnector(**options)
        own = loss.trained[str(index)]
        named = dict(
            adaptation_layers=own.feature,
            channel_wise_adaptation=own.channel,
            spatial_wise_adaptation=own.spatial,
            non_local_adaptation=own.relation,
        )
        for name, layer in named.items():
            getattr(sides[0], name).load_state_dict(layer.state_dict())
        for theirs, block in (
            (sides[0].student_non_local, own.student),
            (sides[1].teacher_non_local, own.teacher),
        ):
            theirs.theta.conv.load_state_dict(block.theta.state_dict())
            theirs.phi[0][0].conv.load_state_dict(block.phi.state_dict())
            theirs.g[0][0].conv.load_state_dict(block.g.state_dict())
            theirs.conv_out.conv.load_state_dict(block.out.state_dict())
            theirs.conv_out.bn.load_state_dict(block.norm.state_dict())
        outputs = sides[0].forward_train(student[index]), sides[1].forward_train(teacher[index])
        total = total + FBKDLoss()(*outputs)
    torch.testing.assert_close(loss(student, teacher), total)


def test_equal_features_have_a_finite_gradient():
    """mmrazor's has none: a square root of 0."""
    loss = AGNLLoss((0,), 6, 6)
    own = loss.trained['0']
    torch.nn.init.dirac_(own.feature.weight)
    torch.nn.init.zeros_(own.feature.bias)
    student = [f.requires_grad_() for f in features(6, 1)]
    parts = loss.parts(student, [f.detach().clone() for f in student])
    assert parts['feature'].item() == 0
    sum(parts.values()).backward()
    assert torch.isfinite(student[0].grad).all()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_its_layers_may_be_of_another_precision(dtype):
    """The teacher's non-local block was given the feature as it is."""
    student, teacher = features(4, 1), features(6, 2)
    exact = build((0, 1), 4, 6).parts(student, teacher)
    loss = build((0, 1), 4, 6).to(dtype)
    parts = loss.parts(student, teacher)
    for name, value in parts.items():
        assert value.item() == pytest.approx(exact[name].item(), rel=0.05)
    sum(parts.values()).backward()
    assert all(p.grad.isfinite().all() for p in loss.parameters())


def test_attention_has_the_mean_one_and_follows_the_temperature():
    x = features(6, 3)[0]
    for tau in (0.1, 0.5, 10.0):
        loss = AGNLLoss((0,), 6, 6, tau=tau)
        assert loss._positions(x).mean().item() == pytest.approx(1)
        assert loss._channels(x).mean().item() == pytest.approx(1)
    assert loss._positions(x).max().item() < 1.2
    assert AGNLLoss((0,), 6, 6, tau=0.1)._positions(x).max().item() > 5


def test_published_weights_by_name():
    two, one = AGNL_WEIGHTS['agnl_two_stage'], AGNL_WEIGHTS['agnl_one_stage']
    assert (two['feature'], two['attention'], two['relation']) == (7e-5, 4e-3, 7e-5)
    assert all(math.isclose(one[name], 6 * two[name]) for name in two)
    with pytest.raises(UsageError, match='did you mean agnl_one_stage'):
        AGNLLoss(weights='agnl_onestage')


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (dict(tau=0.0), 'tau of AGNLLoss must be'),
        (dict(mode='text'), "mode of AGNLLoss must be 'code' or 'paper'"),
        (dict(weights=dict(feature=1.0)), 'weights of AGNLLoss must be finite numbers'),
        (dict(weights=dict(feature=1.0, attention=-1.0, relation=1.0)), 'must be finite numbers'),
        (dict(pools=()), 'pools of AGNLLoss must be whole numbers >= 1'),
        (dict(reductions=(0,)), 'reductions of AGNLLoss must be whole numbers >= 1'),
    ],
)
def test_arguments_out_of_range_are_one_sentence(wrong, message):
    with pytest.raises(ValueError, match=message):
        AGNLLoss(**wrong)


def test_levels_of_weight_zero_are_not_compared():
    loss = AGNLLoss((dict(index=0, weight=0.0),), 6, 6)
    assert loss(features(6, 1), features(6, 2)).item() == 0


def test_a_level_of_weight_zero_does_not_move_the_pools_of_the_others():
    levels = (dict(index=0, weight=0.0), 1, dict(student_index=2, teacher_index=1))
    loss = AGNLLoss(levels, 12, 12, pools=(8, 4, 2), reductions=(2, 3, 4))
    found = {
        key: (own.student.pool, own.student.theta.out_channels) for key, own in loss.trained.items()
    }
    assert found == {'1': (4, 4), '2': (2, 3)}


def test_one_cell_of_one_image_is_refused_in_training_alone():
    loss = AGNLLoss((0,), 6, 6)
    cell = [torch.randn(1, 6, 1, 1)]
    with pytest.raises(UsageError, match='AGNLLoss has batch normalisation.*drop_last=True'):
        loss(cell, cell)
    assert torch.isfinite(loss.eval()(cell, cell))
    wide = [torch.randn(1, 6, 2, 1)]
    assert torch.isfinite(loss.train()(wide, wide))
