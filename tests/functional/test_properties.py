"""What has to hold for any input of ``dpk_mm.functional``, tried on generated ones."""

import itertools
import math
import os
from fractions import Fraction

import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dpk_mm.functional import (
    TokenMask,
    channel_attention,
    cka_from_sums,
    foreground_background_masks,
    hsic_sums,
    mask_by_scores,
    mean_cosine_similarity,
    minibatch_cka,
    num_masked_tokens,
    positions_as_samples,
    random_mask,
    spatial_attention,
    stitch_tokens,
    take_tokens,
)

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def cases(count):
    """CI tries the same cases in every run; elsewhere each run tries others."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize='CI' in os.environ,
        suppress_health_check=SLOW,
    )


SEEDS = st.integers(0, 2**31 - 1)
RATIOS = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.1, 0.5, 0.95, 1.0]))
KINDS = ('dense', 'relu', 'integers', 'low_rank', 'heavy_tail', 'repeated')


def feature(kind, n, p, g):
    """``[n, p]`` features of different characters."""
    x = torch.randn(n, p, generator=g, dtype=torch.float64)
    if kind == 'relu':
        x = x.relu()
    elif kind == 'integers':
        x = (2 * x).round()
    elif kind == 'low_rank':
        x = x[:, :1] @ torch.randn(1, p, generator=g, dtype=torch.float64)
    elif kind == 'heavy_tail':
        x = x**5
    elif kind == 'repeated':
        x = x[torch.randint(n, (n,), generator=g)]
    return x.float()


@st.composite
def pairs(draw):
    """Two features of the same samples, from unrelated to equal."""
    n, p, q = draw(st.integers(4, 24)), draw(st.integers(1, 40)), draw(st.integers(1, 40))
    g = torch.Generator().manual_seed(draw(SEEDS))
    x = feature(draw(st.sampled_from(KINDS)), n, p, g)
    y = feature(draw(st.sampled_from(KINDS)), n, q, g)
    share = draw(st.sampled_from([0.0, 0.3, 1.0]))
    return x, (1 - share) * y + share * x @ torch.randn(p, q, generator=g)


def u_centred(x):
    """The Gram matrix in float64, centred as Szekely & Rizzo do: HSIC_1 is its inner product."""
    x = x.flatten(1).double()
    x = x - x.mean(0)
    whole = x @ x.T
    gram = whole.clone().fill_diagonal_(0)
    n, rows = len(x), gram.sum(1)
    off = gram - rows[:, None] / (n - 2) - rows[None] / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
    return off.fill_diagonal_(0), whole


def oracle(x, y):
    """(the three HSIC_1, condition): how many times larger the terms are than what they leave."""
    (a, k), (b, m) = u_centred(x), u_centred(y)
    n = len(x)
    sums = torch.stack([(a * b).sum(), (a * a).sum(), (b * b).sum()]) / (n * (n - 3))
    condition = max((g.square().sum() / c.square().sum()).item() for c, g in ((a, k), (b, m)))
    return sums, condition


def well_posed(x, y, worst=1e3):
    """(HSIC_1, tolerance) where float32 can tell them: a few samples may be centred away whole."""
    sums, condition = oracle(x, y)
    assume(condition < worst)
    return sums, 2e-6 * condition


@cases(200)
@given(pairs())
def test_hsic_and_cka_equal_the_u_centred_oracle_in_float64(pair):
    sums, slack = well_posed(*pair)
    scale = (sums[1] * sums[2]).sqrt()
    found = hsic_sums(*pair)
    size = torch.stack([scale, sums[1], sums[2]])
    assert ((found - sums).abs() <= slack * size).all()
    # samples that are all alike have no similarity with anything
    cka = sums[0] / scale if scale > 0 else torch.zeros(())
    assert abs(minibatch_cka(*pair) - cka) <= slack


@cases(200)
@given(
    pairs(),
    st.sampled_from([1e-30, 1e-8, 1.0, 1e8, 1e30]),
    st.sampled_from([0.0, 1.0, -50.0]),
    st.booleans(),
)
def test_cka_is_never_above_one_and_never_nan(pair, scale, offset, constant):
    x, y = pair
    x = scale * (torch.full_like(x, 0.1) if constant else x + offset)
    found = minibatch_cka(x, y).item()
    assert math.isfinite(found)
    if constant:
        assert found == 0
        return
    _, slack = well_posed(*pair)
    slack *= 1 + abs(offset)  # what an offset takes from float32
    # Cauchy and Schwarz, for one mini-batch and for the mean of two
    assert abs(found) <= 1 + slack
    sums = torch.stack([hsic_sums(x, y), hsic_sums(3 * x.flip(0), y)])
    assert abs(cka_from_sums(sums.mean(0))) <= 1 + slack


@cases(150)
@given(pairs(), SEEDS, st.floats(-6, 6), st.booleans())
def test_cka_does_not_see_rotation_scale_and_shift(pair, seed, power, negative):
    x, y = pair
    _, slack = well_posed(x, y)
    g = torch.Generator().manual_seed(seed)
    p = x.shape[1]
    rotation = torch.linalg.qr(torch.randn(p, p, generator=g, dtype=torch.float64)).Q
    scale = (-1) ** negative * 10**power
    turned = (scale * (x.double() @ rotation + torch.randn(p, generator=g))).float()
    assert abs(minibatch_cka(turned, y) - minibatch_cka(x, y)) < 10 * slack


@cases(150)
@given(pairs())
def test_cka_is_symmetric_and_one_of_a_feature_with_itself(pair):
    x, y = pair
    _, slack = well_posed(x, y)
    assert abs(minibatch_cka(x, y) - minibatch_cka(y, x)) <= slack
    assert abs(minibatch_cka(x, x) - 1) <= slack


@cases(100)
@given(pairs(), SEEDS)
def test_cka_does_not_see_the_order_of_samples(pair, seed):
    x, y = pair
    _, slack = well_posed(x, y)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    assert abs(minibatch_cka(x[order], y[order]) - minibatch_cka(x, y)) < slack


@cases(60)
@given(pairs(), SEEDS, st.sampled_from([math.nan, math.inf, -math.inf]))
def test_cka_of_what_is_not_finite_is_nan(pair, seed, bad):
    x, y = pair
    x[seed % x.shape[0], seed % x.shape[1]] = bad
    assert minibatch_cka(x, y).isnan() and minibatch_cka(y, x).isnan()


@cases(60)
@given(
    st.tuples(*[st.integers(1, 5)] * 4),
    SEEDS,
    st.sampled_from([1e-30, 1.0, 1e30]),
)
def test_cosine_equals_the_loop(shape, seed, scale):
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randn(shape, generator=g), torch.randn(shape, generator=g)
    cosines = []
    for i, c in itertools.product(range(shape[0]), range(shape[1])):
        a, b = x[i, c].flatten().double(), y[i, c].flatten().double()
        cosines.append((a @ b / (a.norm() * b.norm())).item())
    found = mean_cosine_similarity(x, y).item()
    assert abs(found - sum(cosines) / len(cosines)) < 1e-5
    assert abs(mean_cosine_similarity(scale * x, y).item() - found) < 1e-5


@cases(60)
@given(st.tuples(*[st.integers(1, 5)] * 4), SEEDS)
def test_every_position_is_a_sample_once(shape, seed):
    n, c, h, w = shape
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    found = positions_as_samples(x)
    assert found.shape == (n * h * w, c)
    for i, row, column in itertools.product(range(n), range(h), range(w)):
        assert torch.equal(found[(i * h + row) * w + column], x[i, :, row, column])


@cases(200)
@given(st.integers(0, 3000), RATIOS, RATIOS)
def test_the_count_is_the_nearest_whole_number_that_leaves_both_sides_a_token(tokens, ratio, other):
    count = num_masked_tokens(tokens, ratio)
    least, most = (1, tokens - 1) if tokens > 1 and 0 < ratio < 1 else (0, tokens)
    assert least <= count <= most
    nearest = min(max(Fraction(ratio) * tokens, least), most)
    assert abs(count - nearest) <= Fraction(1, 2) + Fraction(1, 10**9)
    assert num_masked_tokens(tokens, 0.0) == 0 and num_masked_tokens(tokens, 1.0) == tokens
    low, high = sorted([ratio, other])
    assert num_masked_tokens(tokens, low) <= num_masked_tokens(tokens, high)


def split(mask, batch, tokens, count):
    """The two halves share no token, leave none out, and are as large as asked for."""
    assert mask.teacher.shape == (batch, count) and mask.student.shape == (batch, tokens - count)
    for student, teacher in zip(mask.student.tolist(), mask.teacher.tolist(), strict=True):
        assert not set(student) & set(teacher)
        assert sorted(student + teacher) == list(range(tokens))
        assert student == sorted(student) and teacher == sorted(teacher)
    assert mask.as_bool().sum(1).tolist() == [count] * batch


@cases(250)
@given(st.integers(1, 5), st.integers(1, 150), RATIOS, SEEDS)
def test_random_masks_are_disjoint_complete_and_exact(batch, tokens, ratio, seed):
    draw = [
        random_mask(batch, tokens, ratio, generator=torch.Generator().manual_seed(seed))
        for _ in range(2)
    ]
    split(draw[0], batch, tokens, num_masked_tokens(tokens, ratio))
    assert torch.equal(draw[0].teacher, draw[1].teacher)


@cases(150)
@given(st.integers(1, 4), st.integers(1, 60), st.data(), SEEDS)
def test_scores_decide_and_ties_do_no_harm(batch, tokens, data, seed):
    count = data.draw(st.integers(0, tokens))
    levels = data.draw(st.integers(1, 6))
    g = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (batch, tokens), generator=g).float()
    mask = mask_by_scores(scores, count)
    split(mask, batch, tokens, count)
    if 0 < count < tokens:
        lowest = scores.gather(1, mask.teacher).min(1).values
        highest = scores.gather(1, mask.student).max(1).values
        assert (lowest >= highest).all()


@cases(150)
@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 5), RATIOS, SEEDS)
def test_stitching_undoes_taking(batch, tokens, dims, ratio, seed):
    g = torch.Generator().manual_seed(seed)
    mask = random_mask(batch, tokens, ratio, generator=g)
    student, teacher = torch.randn(2, batch, tokens, dims, generator=g)
    hybrid = stitch_tokens(
        take_tokens(student, mask.student), take_tokens(teacher, mask.teacher), mask
    )
    for i, token in itertools.product(range(batch), range(tokens)):
        source = teacher if token in mask.teacher[i] else student
        assert torch.equal(hybrid[i, token], source[i, token])
    other = TokenMask(mask.teacher, mask.student)  # the roles exchanged
    assert torch.equal(
        stitch_tokens(
            take_tokens(teacher, other.student), take_tokens(student, other.teacher), other
        ),
        hybrid,
    )


# quarters of a pixel: exact in float32, also after the product with a grid's side
COORDINATES = st.one_of(
    st.integers(-160, 560).map(lambda quarters: quarters / 4),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e30, -1e30]),
)


def painted(boxes, image, shape):
    """Cell by cell, box by box, in fractions."""
    height, width = shape
    foreground = [[0.0] * width for _ in range(height)]
    for x1, y1, x2, y2 in boxes:
        spans = []
        for a, b, size, grid in ((y1, y2, image[0], height), (x1, x2, image[1], width)):
            if not (math.isfinite(a) and math.isfinite(b)) or max(a, b) < 0 or min(a, b) >= size:
                break
            first, last = max(Fraction(min(a, b)), 0), min(Fraction(max(a, b)), size)
            spans.append((math.floor(first / size * grid), math.ceil(last / size * grid)))
        else:
            (top, bottom), (left, right) = spans
            value = 1 / ((bottom - top + 1) * (right - left + 1))
            for y in range(top, min(bottom, height - 1) + 1):
                for x in range(left, min(right, width - 1) + 1):
                    foreground[y][x] = max(foreground[y][x], value)
    empty = sum(value == 0 for row in foreground for value in row)
    background = [[float(value == 0) / max(empty, 1) for value in row] for row in foreground]
    return foreground, background


@cases(250)
@given(
    st.lists(st.lists(st.tuples(*[COORDINATES] * 4), max_size=5), min_size=1, max_size=3),
    st.tuples(st.integers(1, 100), st.integers(1, 100)),
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
)
def test_masks_of_any_boxes_equal_the_painted_ones(boxes, image, shape):
    tensors = [torch.tensor(rows, dtype=torch.float32).view(-1, 4) for rows in boxes]
    foreground, background = foreground_background_masks(tensors, image, shape)
    for i, rows in enumerate(tensors):
        expected = painted(rows.tolist(), image, shape)
        for found, wanted in zip((foreground[i], background[i]), expected, strict=True):
            torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float32))
    assert not (foreground.bool() & background.bool()).any()
    assert (foreground.bool() | background.bool()).all()


@cases(30)
@given(st.integers(53, 200), SEEDS)
def test_masks_of_more_boxes_than_a_word_has_bits(count, seed):
    g = torch.Generator().manual_seed(seed)
    boxes = torch.randint(256, (count, 4), generator=g) / 4
    foreground, _ = foreground_background_masks([boxes], (64, 64), (5, 6))
    expected, _ = painted(boxes.tolist(), (64, 64), (5, 6))
    torch.testing.assert_close(foreground[0], torch.tensor(expected))


@cases(120)
@given(
    st.tuples(st.integers(1, 3), *[st.integers(1, 6)] * 3),
    SEEDS,
    st.sampled_from([0.1, 0.5, 2.0]),
    st.sampled_from([0.0, 1e-30, 1.0, 30.0, 1e30]),
)
def test_attention_has_mean_one_and_is_the_softmax(shape, seed, temperature, scale):
    x = scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    spatial, channel = spatial_attention(x, temperature), channel_attention(x, temperature)
    torch.testing.assert_close(spatial.mean((1, 2)), torch.ones(shape[0]))
    torch.testing.assert_close(channel.mean(1), torch.ones(shape[0]))
    if 0 < scale <= 1:
        for i in range(shape[0]):
            for found, strength in (
                (spatial[i].flatten(), x[i].double().abs().mean(0).flatten()),
                (channel[i], x[i].double().abs().mean((1, 2))),
            ):
                powers = [math.exp(value / temperature) for value in strength.tolist()]
                expected = [len(powers) * power / sum(powers) for power in powers]
                torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-5)
