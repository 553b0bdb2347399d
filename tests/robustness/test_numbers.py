"""Features that no healthy network gives: zero, constant, huge, tiny, NaN, infinite, in every precision.

What must hold, for FGDLoss, for DPKLoss with MSE and with FGD, for every mask-ratio policy and for the functions below:

- Features of ordinary size, zero, constant, tiny (1e-30) or subnormal ones, and those up to 1e15: the loss and every
  gradient are finite. Any batch (1, 2, 3), 1x1 maps and odd sizes among them, the ratio at both ends.
- Features whose squared difference leaves float32 (1e30), NaN or infinity anywhere: the loss is inf or NaN, never an
  ordinary number. Stopping or skipping is DPKDistill's matter (``non_finite``).
- A ratio is in [min_ratio, max_ratio] whatever comes in, and never NaN.
- Every mask strategy gives each image exactly its share of tokens.
- float16 and bfloat16, as features and under autocast: the loss is float32 and near the one of float32.

Not survived: float32 features beyond about 1e19, where squares overflow. That is reported, not repaired.
"""

from __future__ import annotations

import math

import pytest
import torch

import dpk_mm  # noqa: F401

# isort: split
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from dpk_mm.functional import (
    channel_attention,
    mean_cosine_similarity,
    minibatch_cka,
    spatial_attention,
    unbiased_hsic,
)
from dpk_mm.models.losses import DPKLoss, FGDLoss
from dpk_mm.modules import (
    CKAMaskRatio,
    CosineMaskRatio,
    ExponentialMaskRatio,
    FixedMaskRatio,
    LinearMaskRatio,
)
from dpk_mm.modules.mask_strategy import MaskContext, build_mask

SHAPES = [(7, 5), (5, 3), (1, 1)]
IMAGE = (56, 40)
CHANNELS = 6
WEIGHTS = dict(alpha=0.7, beta=0.3, gamma=0.05, lam=0.02)
TRANSFORM = dict(
    student_channels=CHANNELS,
    teacher_channels=CHANNELS,
    embed_dims=8,
    encoder_depth=1,
    decoder_depth=1,
    num_heads=2,
    position_grid=3,
)

# fill -> what it makes of a normal feature
GOOD = {
    'ordinary': lambda x: x,
    'zero': torch.zeros_like,
    'constant': lambda x: torch.full_like(x, 3.0),
    'negative constant': lambda x: torch.full_like(x, -1e4),
    'large': lambda x: 1e15 * x,
    'tiny': lambda x: 1e-30 * x,
    'subnormal': lambda x: 1e-42 * x,
    'large mean': lambda x: x + 1e6,
}
BAD = {
    'huge': lambda x: 1e30 * x,
    'NaN': lambda x: torch.full_like(x, math.nan),
    'inf': lambda x: torch.full_like(x, math.inf),
    '-inf': lambda x: torch.full_like(x, -math.inf),
}


def one_bad(value):
    """A single number of the first image is bad."""

    def fill(x):
        x = x.clone()
        x[0, 0, 0, 0] = value
        return x

    return fill


BAD_ONE = {
    'one NaN': one_bad(math.nan),
    'one inf': one_bad(math.inf),
    'one -inf': one_bad(-math.inf),
}

LOSSES = ['fgd', 'dpk_mse_0', 'dpk_mse_half', 'dpk_mse_1', 'dpk_fgd_0', 'dpk_fgd_half', 'dpk_fgd_1']


def build(name):
    torch.manual_seed(0)
    fgd = dict(
        levels=(0, 1, 2),
        student_channels=CHANNELS,
        teacher_channels=CHANNELS,
        weights=WEIGHTS,
    )
    if name == 'fgd':
        loss = FGDLoss(**fgd)
    else:
        _, criterion, ratio = name.split('_')
        transforms = dict(
            P4=dict(index=1, patch_size=2, **TRANSFORM), P5=dict(index=2, patch_size=1, **TRANSFORM)
        )
        loss = DPKLoss(transforms, criterion=FGDLoss(**fgd) if criterion == 'fgd' else None)
        loss.mask_ratio = FixedMaskRatio(dict(half=0.5).get(ratio) or float(ratio))
    for key, parameter in loss.named_parameters():
        if 'context' in key:  # zero at the start, which would hide what goes through it
            torch.nn.init.normal_(parameter, std=0.5)
    return loss


def features(n, seed, fill=GOOD['ordinary']):
    g = torch.Generator().manual_seed(seed)
    return tuple(fill(torch.randn(n, CHANNELS, *shape, generator=g)) for shape in SHAPES)


def samples(n):
    """One image with two boxes, one with one, one without."""
    boxes = [[[3.0, 5.0, 30.0, 50.0], [10.0, 10.0, 25.0, 30.0]], [[4.0, 2.0, 30.0, 20.0]], []]
    made = []
    for rows in boxes[:n]:
        instances = InstanceData(bboxes=torch.tensor(rows).view(-1, 4))
        meta = dict(img_shape=IMAGE, batch_input_shape=IMAGE)
        made.append(DetDataSample(metainfo=meta, gt_instances=instances))
    return made


def filled(n, side, fill):
    """Student and teacher features of which one side, or both, are filled."""
    plain = GOOD['ordinary']
    student = features(n, 1, fill if side != 'teacher' else plain)
    teacher = features(n, 2, fill if side != 'student' else plain)
    return tuple(s.requires_grad_() for s in student), teacher


def run(loss, student, teacher):
    value = loss(student, teacher, samples(len(teacher[0])))
    assert value.shape == () and value.dtype == torch.float32
    return value


def gradients(loss, student):
    named = {f'student[{i}]': s.grad for i, s in enumerate(student)}
    named.update((name, p.grad) for name, p in loss.named_parameters())
    return {name: g for name, g in named.items() if g is not None}


@pytest.mark.parametrize('n', [1, 2, 3])
@pytest.mark.parametrize('side', ['student', 'teacher', 'both'])
@pytest.mark.parametrize('fill', GOOD)
@pytest.mark.parametrize('name', LOSSES)
def test_loss_and_gradients_are_finite(name, fill, side, n):
    loss = build(name)
    student, teacher = filled(n, side, GOOD[fill])
    value = run(loss, student, teacher)
    assert math.isfinite(value.item()) and value.item() >= 0
    value.backward()
    found = gradients(loss, student)
    assert found
    for where, gradient in found.items():
        assert torch.isfinite(gradient).all(), where


@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('side', ['student', 'teacher', 'both'])
@pytest.mark.parametrize('fill', {**BAD, **BAD_ONE})
@pytest.mark.parametrize('name', LOSSES)
def test_a_bad_feature_is_never_an_ordinary_loss(name, fill, side, n):
    loss = build(name)
    student, teacher = filled(n, side, {**BAD, **BAD_ONE}[fill])
    torch.manual_seed(3)
    value = run(loss, student, teacher)
    if name in ('dpk_mse_half', 'dpk_mse_1') and side == 'student' and torch.isfinite(value):
        # All bad tokens were masked: then the loss is exactly that of a student that is ordinary there.
        assert name == 'dpk_mse_1' or fill in BAD_ONE
        torch.manual_seed(3)
        assert torch.equal(value, run(loss, *filled(n, side, GOOD['ordinary'])))
    else:
        assert not torch.isfinite(value)


# ---------------------------------------------------------------- precision


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('n', [1, 2, 3])
@pytest.mark.parametrize('name', LOSSES)
def test_autocast_is_near_float32(name, n, dtype):
    loss = build(name)
    student, teacher = filled(n, 'both', GOOD['ordinary'])
    torch.manual_seed(5)
    expected = run(loss, student, teacher)
    torch.manual_seed(5)
    with torch.autocast('cpu', dtype=dtype):
        found = run(
            loss,
            [s.to(dtype) for s in student],
            [t.to(dtype) for t in teacher],
        )
    torch.testing.assert_close(found, expected, rtol=0.03, atol=0)
    found.backward()
    for where, gradient in gradients(loss, student).items():
        assert torch.isfinite(gradient).all(), where


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', ['fgd', 'dpk_mse_half', 'dpk_fgd_half'])
def test_gradients_under_autocast_point_where_those_of_float32_do(name, dtype):
    loss = build(name)
    parameters = [p for p in loss.parameters() if p.requires_grad]
    found = []
    for autocast in (False, True):
        student, teacher = filled(2, 'both', GOOD['ordinary'])
        leaves = [s.detach().requires_grad_() for s in student]
        torch.manual_seed(5)
        with torch.autocast('cpu', dtype=dtype, enabled=autocast):
            inputs = [s.to(dtype) for s in leaves] if autocast else leaves
            value = run(loss, inputs, [t.to(dtype) for t in teacher] if autocast else teacher)
        # DPK with MSE does not look at P3
        gradients = torch.autograd.grad(
            value, [*leaves, *parameters], allow_unused=True, materialize_grads=True
        )
        found.append(torch.cat([g.flatten().float() for g in gradients]))
    wide, narrow = found
    assert torch.cosine_similarity(wide, narrow, dim=0) > 0.999
    assert narrow.norm() / wide.norm() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_squares_beyond_float16_are_summed_in_float32(dtype):
    """A difference of 400 has a square of 160,000; float16 ends at 65,504."""
    loss = build('fgd')
    student, teacher = features(2, 1), features(2, 2)
    student = tuple((400 + s).to(dtype) for s in student)
    teacher = tuple(t.to(dtype) for t in teacher)
    found = run(loss, student, teacher)
    expected = run(loss, [s.float() for s in student], [t.float() for t in teacher])
    assert math.isfinite(found.item())
    assert torch.equal(found, expected)


@pytest.mark.parametrize('offset', [0.0, 10.0, 1e3, 1e4])
def test_the_context_term_keeps_its_digits_where_context_meets_difference(offset):
    """``sum (delta - D)^2`` with delta near D: expanded to three sums it had 17 % error at 1e3, and was negative."""
    loss = FGDLoss(
        levels=(0,),
        student_channels=CHANNELS,
        teacher_channels=CHANNELS,
        weights=dict(alpha=0, beta=0, gamma=0, lam=1),
    )
    block = loss.student_context['0']  # its output layer is zero, so that delta is its bias
    torch.nn.init.constant_(block.w_v2.bias, offset + 0.25)
    g = torch.Generator().manual_seed(0)
    student = torch.randn(2, CHANNELS, 40, 60, generator=g).requires_grad_()
    teacher = offset + torch.randn(2, CHANNELS, 40, 60, generator=g)
    value = loss([student], [teacher])
    value.backward()

    difference = (teacher - student.detach()).double()
    wrong = offset + 0.25 - difference
    # the mean of float32 differences of this size is known to about half a unit in the last place
    room = torch.finfo(torch.float32).eps * max(offset, 1.0)
    expected = (wrong.square().sum() / 2).item()
    assert value.item() == pytest.approx(expected, rel=1e-6 + room)
    torch.testing.assert_close(
        block.w_v2.bias.grad.double() / (40 * 60),
        wrong.mean((2, 3)).sum(0),
        rtol=1e-4,
        atol=4 * room,
    )
    torch.testing.assert_close(student.grad.double(), wrong, rtol=1e-4, atol=4 * room)


def test_a_context_that_explains_the_whole_difference_costs_nothing():
    loss = FGDLoss((0,), CHANNELS, CHANNELS, weights=dict(alpha=0, beta=0, gamma=0, lam=1))
    for offset in (0.1, 3.0, 777.7, 1e7):
        torch.nn.init.constant_(loss.student_context['0'].w_v2.bias, offset)
        zero = torch.zeros(2, CHANNELS, 13, 17)
        value = loss([zero], [torch.full_like(zero, offset)])
        # at most a rounding of the mean, squared; never below zero
        assert 0 <= value <= zero.numel() * (offset * 2**-22) ** 2


# ---------------------------------------------------------------- mask ratio

POLICIES = {
    'CKA of images': lambda: CKAMaskRatio(),
    'CKA of positions': lambda: CKAMaskRatio(samples='positions'),
    'CKA of gathered images': lambda: CKAMaskRatio(gather=True),
    'cosine': lambda: CosineMaskRatio(),
    'linear': lambda: LinearMaskRatio(),
    'exponential': lambda: ExponentialMaskRatio(),
    'narrow': lambda: CKAMaskRatio(min_ratio=0.4, max_ratio=0.4),
    'open': lambda: CKAMaskRatio(min_ratio=0.0, max_ratio=1.0),
}


@pytest.mark.parametrize('side', ['student', 'teacher', 'both'])
@pytest.mark.parametrize('fill', {**GOOD, **BAD, **BAD_ONE})
@pytest.mark.parametrize('name', POLICIES)
def test_a_ratio_is_always_a_number_within_the_limits(name, fill, side):
    policy = POLICIES[name]()
    change = {**GOOD, **BAD, **BAD_ONE}[fill]
    g = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, CHANNELS, 7, 5, generator=g) for _ in range(2))
    student = change(student) if side != 'teacher' else student
    teacher = change(teacher) if side != 'student' else teacher
    for epoch in (0, 1, 10**6):
        policy.set_epoch(epoch)
        ratio = policy(dict(P4=(student, teacher)))['P4']
        assert policy.min_ratio <= ratio <= policy.max_ratio
    for similarity in policy.similarities.values():
        assert -1.0001 <= similarity <= 1.0001


@pytest.mark.parametrize('name', ['CKA of images', 'CKA of positions', 'cosine'])
def test_a_batch_that_is_not_finite_keeps_the_ratio_before(name):
    policy = POLICIES[name]()
    g = torch.Generator().manual_seed(0)
    student = torch.randn(5, CHANNELS, 7, 5, generator=g)
    teacher = 2 * student + torch.randn(5, CHANNELS, 7, 5, generator=g)
    before = policy(dict(P4=(student, teacher)))['P4']
    assert policy.min_ratio < before < policy.max_ratio
    for value in (math.nan, math.inf):
        broken = one_bad(value)(student)
        assert policy(dict(P4=(broken, teacher)))['P4'] == before
    assert policy(dict(P4=(student, teacher)))['P4'] == before


@pytest.mark.parametrize('n', [1, 2, 3])
@pytest.mark.parametrize('samples', ['images', 'positions'])
def test_too_few_samples_are_a_sentence_and_enough_positions_a_ratio(n, samples):
    policy = CKAMaskRatio(samples=samples)
    dot = torch.randn(n, CHANNELS, 1, 1)
    with pytest.raises(ValueError, match=f"CKA needs at least 4 samples, but stage 'P5' has {n} "):
        policy(dict(P5=(dot, dot)))
    if samples == 'positions':
        wide = torch.randn(n, CHANNELS, 2, 2)
        assert policy(dict(P5=(wide, wide)))['P5'] == policy.min_ratio


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf, -0.1, 1.1])
@pytest.mark.parametrize('argument', ['min_ratio', 'max_ratio'])
def test_a_limit_that_is_no_share_is_refused(argument, value):
    with pytest.raises(ValueError, match=argument):
        CKAMaskRatio(**{argument: value})


# ---------------------------------------------------------------- masks

MASKS = {
    'random': 'random',
    'block': 'block',
    'grid': 'grid',
    **{
        f'{score}, {select}, {"opposite" if opposite else "plain"}': dict(
            type='scores', score=score, select=select, opposite=opposite
        )
        for score in ('teacher_activation', 'gap', 'foreground')
        for select in ('sample', 'top')
        for opposite in (False, True)
    },
}


@pytest.mark.parametrize('fill', {**GOOD, **BAD, **BAD_ONE})
@pytest.mark.parametrize('name', MASKS)
def test_a_mask_has_its_share_of_every_image_whatever_the_features(name, fill):
    mask = build_mask(MASKS[name])
    change = {**GOOD, **BAD, **BAD_ONE}[fill]
    boxes = [
        torch.tensor([[3.0, 5.0, 30.0, 50.0]]),
        torch.full((2, 4), math.nan),
        torch.zeros(0, 4),
    ]
    for shape in SHAPES:
        student, teacher = (change(torch.randn(3, CHANNELS, *shape)) for _ in range(2))
        for patch_size in (1, 2) if min(shape) > 1 else (1,):
            grid = [math.ceil(side / patch_size) for side in shape]
            if name == 'grid' and min(grid) < 2:  # has no cells of 2 x 2 there, and says so
                with pytest.raises(ValueError, match="mask is 'grid'"):
                    mask(0.5, student, teacher, patch_size)
                continue
            tokens = grid[0] * grid[1]
            for ratio in (0.0, 0.5, 1.0):
                found = mask(ratio, student, teacher, patch_size, MaskContext(boxes, IMAGE))
                assert found.teacher.shape == (3, int(tokens * ratio + 0.5))
                both = torch.cat([found.teacher, found.student], 1).sort(1).values
                assert torch.equal(both, torch.arange(tokens).expand(3, -1))


# ---------------------------------------------------------------- functions

SCALES = [1e30, 1e15, 1e-15, 1e-30]


def _pair(n=6):
    g = torch.Generator().manual_seed(4)
    x = torch.randn(n, 3, 5, 4, generator=g)
    return x, x + torch.randn(n, 3, 5, 4, generator=g)


@pytest.mark.parametrize('first', SCALES)
@pytest.mark.parametrize('second', SCALES)
@pytest.mark.parametrize('wide', [True, False])
def test_similarity_does_not_see_the_scale(first, second, wide):
    x, y = _pair() if wide else (v.flatten(2).transpose(1, 2).flatten(0, 1) for v in _pair())
    expected = minibatch_cka(x.double(), y.double())
    assert 0.3 < expected < 0.9
    found = minibatch_cka(first * x, second * y)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    hsic = unbiased_hsic(first * x, second * y) / first**2 / second**2
    torch.testing.assert_close(hsic, unbiased_hsic(x, y), rtol=1e-4, atol=0)
    if wide:
        cosine = torch.nn.functional.cosine_similarity(
            x.double().flatten(2), y.double().flatten(2), dim=2
        ).mean()
        found = mean_cosine_similarity(first * x, second * y)
        torch.testing.assert_close(found, cosine, rtol=1e-5, atol=1e-6)


def test_the_cosine_of_nothing_is_zero():
    x, y = _pair()
    assert mean_cosine_similarity(torch.zeros_like(x), y) == 0
    assert mean_cosine_similarity(torch.zeros_like(x), torch.zeros_like(x)) == 0


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_similarity_of_what_is_not_finite_is_nan(value):
    x, y = _pair()
    broken = one_bad(value)(x)
    assert minibatch_cka(broken, y).isnan() and minibatch_cka(y, broken).isnan()
    assert mean_cosine_similarity(broken, y).isnan() and mean_cosine_similarity(y, broken).isnan()


@pytest.mark.parametrize('scale', [1e-42, 1e-30, 1e-3, 1.0, 1e3, 1e15, 1e30, 1e36])
@pytest.mark.parametrize('attention', [spatial_attention, channel_attention])
def test_attention_is_a_softmax_at_any_scale(attention, scale):
    g = torch.Generator().manual_seed(0)
    feature = (scale * torch.randn(3, CHANNELS, 5, 4, generator=g)).requires_grad_()
    found = attention(feature, 0.5)
    assert (found >= 0).all()
    count = found[0].numel()
    torch.testing.assert_close(found.flatten(1).sum(1), torch.full((3,), float(count)))
    dims = (1,) if attention is spatial_attention else (2, 3)
    exact = count * (feature.detach().double().abs().mean(dims).flatten(1) / 0.5).softmax(1)
    torch.testing.assert_close(
        found.flatten(1).double(), exact, rtol=1e-3 * max(1, scale), atol=1e-6
    )
    found.square().sum().backward()
    assert torch.isfinite(feature.grad).all()


@pytest.mark.parametrize('attention', [spatial_attention, channel_attention])
@pytest.mark.parametrize('fill', ['zero', 'constant', 'negative constant'])
def test_attention_of_a_flat_feature_is_even_and_has_no_gradient(attention, fill):
    feature = GOOD[fill](torch.randn(2, CHANNELS, 3, 1)).requires_grad_()
    found = attention(feature, 0.5)
    assert torch.equal(found, torch.ones_like(found))
    found.sum().backward()
    torch.testing.assert_close(feature.grad, torch.zeros_like(feature), rtol=0, atol=1e-6)
