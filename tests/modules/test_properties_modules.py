"""What has to hold for any input of ``dpk_mm.modules``, tried on generated ones."""

import itertools
import json
import math
import os

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpk_mm.functional import cka_from_sums, hsic_sums, num_masked_tokens
from dpk_mm.modules import (
    CKAMaskRatio,
    ContextBlock,
    CosineMaskRatio,
    DPKTransform,
    ExponentialMaskRatio,
    LinearMaskRatio,
    MaskContext,
    PatchEmbed,
    PositionEmbedding,
    Transformer,
    build_mask,
    sinusoid_table,
    unpatchify,
)

CPU = torch.device('cpu')
SEEDS = st.integers(0, 2**31 - 1)
SIDES = st.integers(1, 13)
SHARES = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.95, 1.0]))


def cases(count):
    """CI tries the same cases in every run; elsewhere each run tries others."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize='CI' in os.environ,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def noise(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def patches_as_tokens(channels, k):
    """A PatchEmbed whose tokens are the patches themselves, ordered (C, k, k)."""
    embed = PatchEmbed(channels, channels * k * k, k)
    with torch.no_grad():
        embed.proj.weight.copy_(torch.eye(channels * k * k).view(-1, channels, k, k))
        embed.proj.bias.zero_()
    return embed


@cases(200)
@given(st.integers(1, 3), st.integers(1, 3), SIDES, SIDES, st.integers(1, 6), SEEDS)
def test_unpatchify_undoes_patches_of_any_size(n, channels, height, width, k, seed):
    feature = noise(seed, n, channels, height, width)
    tokens = patches_as_tokens(channels, k)(feature)
    assert tokens.shape == (n, math.ceil(height / k) * math.ceil(width / k), channels * k * k)
    torch.testing.assert_close(unpatchify(tokens, (height, width), k), feature)
    # every cell is in one token, and what was padded is zero
    torch.testing.assert_close(tokens.square().sum(), feature.square().sum(), rtol=1e-4, atol=1e-5)


@cases(150)
@given(st.integers(1, 3), SIDES, SIDES, st.integers(1, 4), SEEDS)
def test_patches_of_any_tokens_come_back(channels, height, width, k, seed):
    rows, columns = -(-height // k), -(-width // k)
    tokens = noise(seed, 2, rows * columns, channels * k * k)
    feature = unpatchify(tokens, (rows * k, columns * k), k)
    torch.testing.assert_close(patches_as_tokens(channels, k)(feature), tokens)
    assert torch.equal(unpatchify(tokens, (height, width), k), feature[..., :height, :width])


@cases(150)
@given(SIDES, SIDES, SIDES, SIDES, st.integers(1, 5), SEEDS, st.floats(-3, 3))
def test_learnable_positions_for_any_grid(rows, columns, own_rows, own_columns, dims, seed, value):
    position = PositionEmbedding(dims, 'learnable', (own_rows, own_columns))
    with torch.no_grad():
        position.table.copy_(noise(seed, 1, own_rows * own_columns, dims))
    found = position((rows, columns), CPU).clone()
    assert found.shape == (1, rows * columns, dims) and found.isfinite().all()
    if (rows, columns) == (own_rows, own_columns):
        assert torch.equal(found, position.table)
    with torch.no_grad():
        position.table.mul_(2).add_(value)  # interpolation is linear, and keeps a constant
    torch.testing.assert_close(
        position((rows, columns), CPU), 2 * found + value, rtol=1e-4, atol=1e-4
    )


@cases(150)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12))
def test_sinusoidal_positions_for_any_grid(rows, columns, dims):
    found = PositionEmbedding(dims, 'sinusoidal')((rows, columns), CPU)
    assert found.shape == (1, rows * columns, dims)
    for place, column in {(0, 0), (rows * columns - 1, dims - 1), (rows * columns // 2, dims // 2)}:
        angle = place / 10000 ** (2 * (column // 2) / dims)
        value = math.sin(angle) if column % 2 == 0 else math.cos(angle)
        assert abs(found[0, place, column].item() - value) < 1e-6
    assert torch.equal(found[0, :columns], sinusoid_table(columns, dims))


@cases(100)
@given(st.integers(1, 3), st.integers(0, 9), st.integers(0, 2), SEEDS)
def test_a_transformer_without_positions_does_not_see_the_order(n, length, depth, seed):
    torch.manual_seed(seed)
    model = Transformer(8, depth, 2).eval()
    x = noise(seed, n, length, 8)
    order = torch.randperm(length, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(model(x[:, order]), model(x)[:, order], rtol=1e-4, atol=1e-5)


@cases(80)
@given(
    st.integers(1, 2),
    st.tuples(SIDES, SIDES),
    st.tuples(SIDES, SIDES),
    st.integers(1, 4),
    SHARES,
    st.booleans(),
    SEEDS,
)
def test_a_hybrid_of_any_size(n, size, teacher_size, k, ratio, encode_first, seed):
    torch.manual_seed(seed)
    k = min(k, *teacher_size)  # a larger patch is refused
    transform = DPKTransform(
        *(3, 4, k, 8, 1, 8, 1, 2), position_grid=(2, 3), encode_first=encode_first
    )
    student = noise(seed, n, 3, *size).requires_grad_()
    teacher = noise(seed + 1, n, 4, *teacher_size).requires_grad_()
    hybrid = transform(student, teacher, ratio)
    assert hybrid.shape == teacher.shape and hybrid.isfinite().all()
    hybrid.square().sum().backward()
    assert teacher.grad is None
    assert all(p.grad is not None and p.grad.isfinite().all() for p in transform.parameters())
    tokens = transform.num_tokens(teacher_size)
    masked = num_masked_tokens(tokens, ratio)
    if masked in (0, tokens):  # all from one side: the other is not seen
        other = [noise(seed + 2, *student.shape), noise(seed + 3, *teacher.shape)]
        pair = (student, other[1]) if masked == 0 else (other[0], teacher)
        torch.testing.assert_close(transform(*pair, ratio), hybrid)
        if masked == tokens:
            assert not student.grad.any()
        else:
            assert student.grad.any()


@cases(60)
@given(st.integers(1, 3), st.integers(2, 6), st.tuples(SIDES, SIDES), SEEDS)
def test_a_context_block_equals_the_loop(n, channels, size, seed):
    torch.manual_seed(seed)
    block = ContextBlock(channels)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    block.double()
    x = noise(seed, n, channels, *size).double()
    found = block(x)
    assert found.shape == (n, channels)
    for i in range(n):
        cells = [x[i, :, row, column] for row, column in itertools.product(*map(range, size))]
        powers = [math.exp(float(block.w_k.weight[0] @ cell)) for cell in cells]
        pooled = sum(p * cell for p, cell in zip(powers, cells, strict=True)) / sum(powers)
        hidden = block.w_v1.weight @ pooled + block.w_v1.bias
        centred = hidden - hidden.mean()
        hidden = centred / (centred.square().mean() + block.norm.eps).sqrt()
        hidden = (hidden * block.norm.weight + block.norm.bias).relu()
        torch.testing.assert_close(found[i], block.w_v2.weight @ hidden + block.w_v2.bias)


MASKS = ['random', 'block', 'grid']
MASKS += [
    dict(type='scores', score=score, select=select, opposite=opposite)
    for score in ('teacher_activation', 'gap', 'foreground', 'uncertainty')
    for select in ('sample', 'top')
    for opposite in (False, True)
]


@cases(250)
@given(
    st.sampled_from(MASKS),
    st.integers(1, 3),
    st.tuples(SIDES, SIDES),
    st.integers(1, 4),
    SHARES,
    SEEDS,
    st.sampled_from([0.0, 1e-30, 1.0, 1e15]),
)
def test_every_mask_is_disjoint_complete_and_exact(mask, n, size, k, ratio, seed, scale):
    torch.manual_seed(seed)
    if mask == 'grid':
        size = tuple(max(side, k + 1) for side in size)  # its smallest map has 2 x 2 tokens
    context = MaskContext(
        boxes=[64 * torch.rand(i, 4) for i in range(n)],
        image_shape=(64, 64),
        class_weight=torch.randn(5, 4),
        class_bias=torch.randn(5),
    )
    student, teacher = scale * torch.randn(n, 3, *size), scale * torch.randn(n, 4, *size)
    found = build_mask(mask)(ratio, student, teacher, k, context)
    tokens = -(-size[0] // k) * -(-size[1] // k)
    count = num_masked_tokens(tokens, ratio)
    assert found.teacher.shape == (n, count) and found.student.shape == (n, tokens - count)
    for student_tokens, teacher_tokens in zip(
        found.student.tolist(), found.teacher.tolist(), strict=True
    ):
        assert sorted(student_tokens + teacher_tokens) == list(range(tokens))


@cases(150)
@given(SHARES, SHARES, SHARES, SHARES, st.integers(0, 400))
def test_schedules_stay_in_their_limits_and_never_rise(initial, step, a, b, epoch):
    low, high = sorted([a, b])
    feats = dict(P5=(noise(0, 1, 1, 1, 1), noise(0, 1, 1, 1, 1)))
    for policy in (
        LinearMaskRatio(initial, step / 100, low, high),
        ExponentialMaskRatio(initial, step, low, high),
    ):
        ratios = []
        for e in (epoch, epoch + 1):
            policy.set_epoch(e)
            ratios.append(policy(feats)['P5'])
        assert low <= ratios[1] <= ratios[0] <= high


HOSTILE = st.sampled_from(['noise', 'equal', 'constant', 'alike', 'zero', 'nan', 'inf', 'few'])
POLICIES = st.sampled_from([dict(), dict(window=3), dict(momentum=0.9)])


@cases(250)
@given(
    st.sampled_from(['images', 'positions', 'cosine']),
    POLICIES,
    st.lists(
        st.tuples(HOSTILE, SEEDS, st.sampled_from([1e-30, 1.0, 1e6, 1e30])), min_size=1, max_size=5
    ),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_a_ratio_is_in_its_limits_whatever_comes(kind, average, batches, size):
    policy = CosineMaskRatio(**average) if kind == 'cosine' else CKAMaskRatio(kind, **average)
    for number, (what, seed, scale) in enumerate(batches):
        x = noise(seed, 6, 3, *size)
        y = noise(seed + 1, 6, 3, *size)
        if what == 'equal':
            y = x
        elif what == 'constant':
            x = torch.full_like(x, 0.1)
        elif what == 'alike':  # all images but one
            x[1:] = x[:1]
        elif what == 'zero':
            x, y = torch.zeros_like(x), torch.zeros_like(y)
        elif what in ('nan', 'inf'):
            x[seed % 6, 0, 0, 0] = float(what)
        elif what == 'few' and number and kind == 'images':
            x, y = x[:3], y[:3]
        elif what == 'few':
            x, y = x[:4], y[:4]
        ratio = policy(dict(P5=(scale * x, scale * y)))['P5']
        assert 0.1 <= ratio <= 0.95
        for similarity in policy.similarities.values():
            assert -1 - 1e-6 <= similarity <= 1 + 1e-6
    json.dumps(policy.state_dict(), allow_nan=False)


@cases(100)
@given(
    st.integers(1, 6),
    st.floats(0.01, 0.99),
    st.lists(st.tuples(SEEDS, st.integers(4, 9)), min_size=1, max_size=8),
    st.integers(0, 8),
)
def test_averages_equal_the_definition_and_survive_a_restart(window, momentum, batches, restart):
    for kind in (dict(window=window), dict(momentum=momentum)):
        policy = CKAMaskRatio(**kind, min_ratio=0.0, max_ratio=1.0)
        sums = []
        for number, (seed, n) in enumerate(batches):
            if number == restart:
                state = json.loads(json.dumps(policy.state_dict()))
                policy = CKAMaskRatio(**kind, min_ratio=0.0, max_ratio=1.0)
                policy.load_state_dict(state)
            y = noise(seed, n, 3, 2, 2)
            x = y + noise(seed + 1, n, 3, 2, 2)
            policy(dict(P5=(x, y)))
            sums.append(hsic_sums(x, y))
            ages = range(number, -1, -1)
            if 'window' in kind:
                weights = [float(age < window) for age in ages]
            else:
                weights = [momentum**age for age in ages]
            mean = sum(w * s for w, s in zip(weights, sums, strict=True)) / sum(weights)
            assert abs(policy.similarities['P5'] - cka_from_sums(mean).clamp(-1, 1)) < 1e-9


@cases(60)
@given(
    st.integers(1, 4), st.integers(1, 4), st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES), SEEDS
)
def test_positions_as_samples_of_a_resized_student(n, channels, size, teacher_size, seed):
    student, teacher = noise(seed, n, channels, *size), noise(seed + 1, n, 3, *teacher_size)
    if n * teacher_size[0] * teacher_size[1] < 4:
        return
    resized = F.interpolate(student, teacher_size, mode='bilinear', align_corners=False)
    first, second = CKAMaskRatio('positions'), CKAMaskRatio('positions')
    ratio = first(dict(P5=(student, teacher)))
    # rounding decides where nothing is left after centring, but only within the limits
    assert 0.1 <= ratio['P5'] <= 0.95
    if size == teacher_size:
        assert ratio == second(dict(P5=(resized, teacher)))
