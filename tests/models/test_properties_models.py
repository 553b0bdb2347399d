"""The FGD loss and the teacher's input, tried on generated batches."""

import itertools
import math
import os
from fractions import Fraction
from types import SimpleNamespace

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from mmrazor.registry import MODELS

from dpk_mm.models.losses import FGDLoss
from dpk_mm.models.teacher.normalisation import TeacherInput

SEEDS = st.integers(0, 2**31 - 1)


def cases(count):
    """CI tries the same cases in every run; elsewhere each run tries others."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize='CI' in os.environ,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def softmax(values):
    top = max(values)
    powers = [math.exp(value - top) for value in values]
    return [power / sum(powers) for power in powers]


def attentions(x, temperature):
    """A^S as rows and A^C, of one image as nested lists [C][H][W]."""
    c, h, w = len(x), len(x[0]), len(x[0][0])
    spatial = softmax(
        [
            sum(abs(x[k][i][j]) for k in range(c)) / c / temperature
            for i in range(h)
            for j in range(w)
        ]
    )
    channel = softmax(
        [
            sum(abs(x[k][i][j]) for i in range(h) for j in range(w)) / (h * w) / temperature
            for k in range(c)
        ]
    )
    rows = [[h * w * spatial[i * w + j] for j in range(w)] for i in range(h)]
    return rows, [c * value for value in channel]


def scale_masks(boxes, image, h, w):
    """M * S and (1 - M) * S of Eq. 8, a cell at a time."""
    foreground = [[0.0] * w for _ in range(h)]
    for x1, y1, x2, y2 in boxes:
        left, right = (Fraction(x) * w / image[1] for x in (x1, x2))
        top, bottom = (Fraction(y) * h / image[0] for y in (y1, y2))
        span = (math.floor(top), math.ceil(bottom), math.floor(left), math.ceil(right))
        value = 1 / ((span[1] - span[0] + 1) * (span[3] - span[2] + 1))
        for i, j in itertools.product(range(h), range(w)):
            if span[0] <= i <= span[1] and span[2] <= j <= span[3]:
                foreground[i][j] = max(foreground[i][j], value)
    empty = max(sum(value == 0 for row in foreground for value in row), 1)
    return foreground, [[float(value == 0) / empty for value in row] for row in foreground]


def slow_fgd(student, teacher, boxes, image, temperature):
    """Eq. 8's two sums and the attention term, unweighted, for a batch."""
    n, c, h, w = teacher.shape
    total = dict(foreground=0.0, background=0.0, attention=0.0)
    for s, t, rows in zip(student.tolist(), teacher.tolist(), boxes, strict=True):
        spatial, channel = attentions(t, temperature)
        spatial_s, channel_s = attentions(s, temperature)
        masks = dict(zip(('foreground', 'background'), scale_masks(rows, image, h, w), strict=True))
        for k, i, j in itertools.product(range(c), range(h), range(w)):
            error = spatial[i][j] * channel[k] * (t[k][i][j] - s[k][i][j]) ** 2
            for name, mask in masks.items():
                total[name] += mask[i][j] * error / n
        total['attention'] += sum(abs(a - b) for a, b in zip(channel_s, channel, strict=True)) / n
        total['attention'] += (
            sum(abs(spatial_s[i][j] - spatial[i][j]) for i in range(h) for j in range(w)) / n
        )
    return total


QUARTERS = st.integers(0, 255).map(lambda quarters: quarters / 4)


@st.composite
def box(draw):
    (x1, x2), (y1, y2) = (sorted([draw(QUARTERS), draw(QUARTERS)]) for _ in range(2))
    return x1, y1, x2, y2


@cases(200)
@given(
    st.lists(st.lists(box(), max_size=4), min_size=1, max_size=3),
    st.integers(1, 4),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from([0.3, 0.5, 1.0]),
    st.sampled_from([0.01, 1.0, 20.0]),
    st.sampled_from([(64, 64), (64, 96), (100, 64)]),
    SEEDS,
)
def test_fgd_equals_the_slow_formula(boxes, channels, size, temperature, scale, image, seed):
    g = torch.Generator().manual_seed(seed)
    student, teacher = scale * torch.randn(2, len(boxes), channels, *size, generator=g)
    weights = dict(alpha=0.7, beta=0.3, gamma=0.05, lam=0.0)
    loss = FGDLoss((0,), channels, channels, weights, temperature)
    samples = [
        DetDataSample(
            metainfo=dict(batch_input_shape=image),
            gt_instances=InstanceData(bboxes=torch.tensor(rows, dtype=torch.float32).view(-1, 4)),
        )
        for rows in boxes
    ]
    found = loss.parts([student], [teacher], samples)
    expected = slow_fgd(student, teacher, boxes, image, temperature)
    for name, weight in (('foreground', 0.7), ('background', 0.3), ('attention', 0.05)):
        wanted = torch.tensor(weight * expected[name], dtype=torch.float32)
        torch.testing.assert_close(found[name], wanted, rtol=2e-4, atol=1e-5, msg=name)
    assert found['context'] == 0
    assert any(boxes) or found['foreground'] == 0


@cases(100)
@given(
    st.integers(1, 3),
    st.integers(2, 4),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.sampled_from([0.01, 1.0, 20.0]),
    SEEDS,
)
def test_fgd_context_equals_the_outputs_made_in_full(n, channels, size, scale, seed):
    torch.manual_seed(seed)
    student, teacher = scale * torch.randn(2, n, channels, *size, dtype=torch.float64)
    loss = FGDLoss((0,), channels, channels, dict(alpha=0.0, beta=0.0, gamma=0.0, lam=0.5))
    for parameter in loss.parameters():
        torch.nn.init.normal_(parameter)
    found = loss.parts([student.float()], [teacher.float()])['context']
    loss.double()
    out_s = student + loss.student_context['0'](student)[..., None, None]
    out_t = teacher + loss.teacher_context['0'](teacher)[..., None, None]
    expected = 0.5 * (out_s - out_t).square().sum() / n
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-5)
    assert found >= 0


MEANS = st.tuples(*[st.floats(0, 255)] * 3)
STDS = st.tuples(*[st.floats(1, 255)] * 3)


@st.composite
def normalisation(draw):
    kwargs = {}
    if draw(st.integers(0, 3)):
        kwargs = dict(mean=draw(MEANS), std=draw(STDS), bgr_to_rgb=draw(st.booleans()))
    kwargs['pad_value'] = draw(st.integers(-2, 2))
    return MODELS.build(dict(type='mmdet.DetDataPreprocessor', **kwargs))


@cases(200)
@given(
    normalisation(),
    normalisation(),
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=3),
    SEEDS,
)
def test_a_teacher_sees_what_its_own_preprocessor_would_give(student, teacher, sizes, seed):
    g = torch.Generator().manual_seed(seed)
    images = [torch.randint(0, 256, (3, *size), generator=g, dtype=torch.uint8) for size in sizes]

    def batch(preprocessor):
        samples = [DetDataSample(metainfo=dict(img_shape=size)) for size in sizes]
        out = preprocessor(dict(inputs=[i.clone() for i in images], data_samples=samples))
        return out['inputs'], out['data_samples']

    inputs, samples = batch(student)
    wanted, _ = batch(teacher)
    forth, back = TeacherInput(student, teacher), TeacherInput(teacher, student)
    if forth.same and student.pad_value != teacher.pad_value:
        samples = None  # the input is not touched, padding included
        height, width = min(s[0] for s in sizes), min(s[1] for s in sizes)
        inputs, wanted = inputs[..., :height, :width], wanted[..., :height, :width]
    kept = inputs.clone()
    found = forth(inputs, samples)
    # 1 / std of 1 leaves values up to 255, and rounding of the student's is scaled up with them
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-2)
    torch.testing.assert_close(back(found, samples), inputs, rtol=1e-4, atol=2e-2)
    assert torch.equal(inputs, kept)


@cases(60)
@given(MEANS, STDS, st.booleans(), SEEDS)
def test_equal_normalisation_hands_the_same_tensor_on(mean, std, to_rgb, seed):
    side = SimpleNamespace(
        _enable_normalize=True,
        mean=torch.tensor(mean).view(3, 1, 1),
        std=torch.tensor(std).view(3, 1, 1),
        to_rgb=to_rgb,
    )
    x = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
    assert TeacherInput(side, side)(x) is x
