import copy
import math

import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.structures import InstanceData

from dpk_mm.models.losses.fgd_loss import FGDLoss

IMAGE = (64, 96)  # the padded batch; the second image is smaller
SHAPES = [(8, 12), (4, 6), (2, 3)]
BOXES = [
    [[3.0, 5.0, 60.0, 50.0], [10.0, 10.0, 25.0, 30.0], [80.0, 40.0, 95.5, 63.0]],
    [[4.0, 2.0, 30.0, 20.0]],
]
WEIGHTS = dict(alpha=0.7, beta=0.3, gamma=0.05, lam=0.02)
PARTS = {'foreground': 'alpha', 'background': 'beta', 'attention': 'gamma', 'context': 'lam'}


def _samples(boxes=BOXES, wrap=torch.as_tensor, batch_input_shape=IMAGE):
    sizes = [IMAGE, (40, 50)]
    samples = []
    for rows, size in zip(boxes, sizes, strict=True):
        meta = dict(img_shape=size)
        if batch_input_shape:
            meta['batch_input_shape'] = batch_input_shape
        tensor = torch.tensor(rows, dtype=torch.float32).view(-1, 4)
        instances = InstanceData(bboxes=wrap(tensor))
        samples.append(DetDataSample(metainfo=meta, gt_instances=instances))
    return samples


def _features(channels, seed, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, channels, *shape, generator=generator) for shape in shapes]


def _loss(trained=True, **kwargs):
    torch.manual_seed(0)
    arguments = dict(levels=(0, 1, 2), student_channels=6, teacher_channels=6, weights=WEIGHTS)
    loss = FGDLoss(**{**arguments, **kwargs})
    if trained:
        for parameter in loss.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return loss


def _painted(boxes, shape):
    """Masks of one image, cell by cell: the smallest box over a cell wins."""
    height, width = shape
    foreground = torch.zeros(shape, dtype=torch.float64)
    for x1, y1, x2, y2 in boxes:
        left, right = math.floor(x1 / IMAGE[1] * width), math.ceil(x2 / IMAGE[1] * width)
        top, bottom = math.floor(y1 / IMAGE[0] * height), math.ceil(y2 / IMAGE[0] * height)
        value = 1 / ((right - left + 1) * (bottom - top + 1))
        for y in range(top, min(bottom + 1, height)):
            for x in range(left, min(right + 1, width)):
                foreground[y, x] = max(foreground[y, x].item(), value)
    background = (foreground == 0).double()
    return foreground, background / max(background.sum().item(), 1)


def _slow_term(block, image):
    """The additive context of one image [C, H, W]."""
    channels = image.shape[0]
    flat = image.reshape(channels, -1)
    share = (block.w_k.weight[0] @ flat).softmax(0)
    hidden = block.w_v1.weight @ (flat * share).sum(1) + block.w_v1.bias
    centred = hidden - hidden.mean()
    hidden = centred / (centred.square().mean() + block.norm.eps).sqrt()
    hidden = (hidden * block.norm.weight + block.norm.bias).relu()
    return block.w_v2.weight @ hidden + block.w_v2.bias


def _reference(loss, student_feats, teacher_feats, boxes=BOXES, temperature=0.5):
    """Every term, image by image in the precision of the inputs, outputs made in full."""
    total = dict.fromkeys(PARTS, 0.0)
    for level in (level.student for level in loss.levels):
        key = str(level)
        for i, rows in enumerate(boxes):
            student, teacher = student_feats[level][i], teacher_feats[level][i].detach()
            if key in loss.align:
                conv = loss.align[key]
                student = torch.einsum('oc,chw->ohw', conv.weight[:, :, 0, 0], student)
                student = student + conv.bias[:, None, None]
            channels, height, width = teacher.shape

            def spatial(image, cells=height * width):
                strength = image.abs().mean(0) / temperature
                return cells * strength.exp() / strength.exp().sum()

            def channel(image, count=channels):
                strength = image.abs().mean((1, 2)) / temperature
                return count * strength.exp() / strength.exp().sum()

            weight = spatial(teacher)[None] * channel(teacher)[:, None, None]
            error = (student - teacher) ** 2 * weight
            foreground, background = _painted(rows, (height, width))
            gap = (channel(student) - channel(teacher)).abs().sum()
            gap = gap + (spatial(student) - spatial(teacher)).abs().sum()
            out_s = student + _slow_term(loss.student_context[key], student)[:, None, None]
            out_t = teacher + _slow_term(loss.teacher_context[key], teacher)[:, None, None]
            n = len(boxes)
            total['foreground'] += WEIGHTS['alpha'] * (error * foreground).sum() / n
            total['background'] += WEIGHTS['beta'] * (error * background).sum() / n
            total['attention'] += WEIGHTS['gamma'] * gap / n
            total['context'] += WEIGHTS['lam'] * ((out_s - out_t) ** 2).sum() / n
    return total


def _double(feats):
    return [f.detach().double().requires_grad_() for f in feats]


@pytest.mark.parametrize('part', PARTS)
@pytest.mark.parametrize('student_channels', [6, 4])
@pytest.mark.parametrize('boxes', [BOXES, [BOXES[0], []], [[], []]], ids=['all', 'one', 'none'])
def test_parts_and_gradients_equal_a_slow_reference(part, student_channels, boxes):
    loss = _loss(student_channels=student_channels)
    slow = copy.deepcopy(loss).double()
    student = [f.requires_grad_() for f in _features(student_channels, 1)]
    teacher = [f.requires_grad_() for f in _features(6, 2)]
    slow_student, slow_teacher = _double(student), _double(teacher)

    value = loss.parts(student, teacher, _samples(boxes))[part]
    expected = _reference(slow, slow_student, slow_teacher, boxes)[part]
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    if part == 'foreground' and not any(boxes):
        assert value == 0

    value.backward()
    expected.backward()
    for fast, exact in zip(student, slow_student, strict=True):
        torch.testing.assert_close(fast.grad.double(), exact.grad, rtol=1e-4, atol=1e-6)
    assert all(f.grad is None for f in teacher)
    for (name, fast), exact in zip(loss.named_parameters(), slow.parameters(), strict=True):
        zero = torch.zeros_like(exact)
        torch.testing.assert_close(
            zero if fast.grad is None else fast.grad.double(),
            zero if exact.grad is None else exact.grad,
            rtol=1e-3,
            atol=1e-5,
            msg=lambda text, name=name: f'{name}: {text}',
        )


def test_forward_is_the_sum_of_the_parts_times_the_loss_weight():
    student, teacher = _features(6, 1), _features(6, 2)
    plain = _loss()
    parts = plain.parts(student, teacher, _samples())
    assert list(parts) == list(PARTS)
    torch.testing.assert_close(plain(student, teacher, _samples()), sum(parts.values()))
    half = _loss(loss_weight=0.5)
    for name, value in half.parts(student, teacher, _samples()).items():
        torch.testing.assert_close(value, parts[name] / 2)


def test_context_starts_as_the_plain_squared_difference():
    student, teacher = _features(6, 1), _features(6, 2)
    value = _loss(trained=False).parts(student, teacher, _samples())['context']
    plain = sum(((s - t) ** 2).sum() for s, t in zip(student, teacher, strict=True)) / 2
    torch.testing.assert_close(value, WEIGHTS['lam'] * plain)


def test_equal_features_cost_nothing_at_the_start():
    feats = _features(6, 1)
    assert _loss(trained=False)(feats, feats, _samples()) == 0


def test_every_parameter_gets_a_gradient():
    loss = _loss(student_channels=4)
    for name, parameter in loss.named_parameters():
        if name.endswith('norm.bias'):  # three random hidden units can all be off
            torch.nn.init.constant_(parameter, 3.0)
    loss(_features(4, 1), _features(6, 2), _samples()).backward()
    assert len(list(loss.parameters())) == 3 * (2 + 2 * 7)
    for name, parameter in loss.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_autocast_gives_the_float32_result():
    loss = _loss(student_channels=4)
    student, teacher = _features(4, 1), _features(6, 2)
    expected = loss.parts(student, teacher, _samples())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = loss.parts(student, teacher, _samples())
    for name, value in found.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, expected[name]), name


def test_bfloat16_features_are_computed_in_float32():
    loss = _loss()
    student = [f.bfloat16() for f in _features(6, 1)]
    teacher = [f.bfloat16() for f in _features(6, 2)]
    expected = loss([f.float() for f in student], [f.float() for f in teacher], _samples())
    assert torch.equal(loss(student, teacher, _samples()), expected)


@pytest.mark.parametrize('part', PARTS)
def test_a_weight_of_zero_removes_the_term_and_its_parameters_and_nothing_else(part):
    loss = _loss()
    reduced = _loss(weights={**WEIGHTS, PARTS[part]: 0})
    reduced.load_state_dict(loss.state_dict(), strict=part != 'context')
    student, teacher = _features(6, 1), _features(6, 2)
    expected = loss.parts(student, teacher, _samples())
    for name, value in reduced.parts(student, teacher, _samples()).items():
        torch.testing.assert_close(value, expected[name] * (name != part))
    assert bool(list(reduced.parameters())) == (part != 'context')


def test_no_boxes_are_needed_without_their_terms():
    loss = _loss(weights={**WEIGHTS, 'alpha': 0, 'beta': 0})
    assert loss(_features(6, 1), _features(6, 2)) > 0


def test_all_weights_zero_give_zero():
    loss = _loss(weights=dict(alpha=0, beta=0, gamma=0, lam=0), student_channels=4)
    assert not list(loss.parameters())
    assert loss(_features(4, 1), _features(6, 2)) == 0


def test_box_classes_count_as_their_tensor():
    loss = _loss()
    student, teacher = _features(6, 1), _features(6, 2)
    boxed = loss(student, teacher, _samples(wrap=HorizontalBoxes))
    assert torch.equal(boxed, loss(student, teacher, _samples()))


def test_only_the_named_levels_count():
    student, teacher = _features(6, 1), _features(6, 2)
    one = _loss(levels=(1,))
    expected = one(student, teacher, _samples())
    changed = [student[0] + 1, student[1], student[2] + 1]
    assert torch.equal(one(changed, teacher, _samples()), expected)
    assert list(one.student_context) == ['1']


def test_aligned_levels_take_the_channels_of_the_teacher():
    loss = _loss(student_channels=4, aligned_levels=(1, 2))
    assert list(loss.align) == ['0']
    teacher, wide, narrow = _features(6, 2), _features(6, 3), _features(4, 1)
    student = [narrow[0], *wide[1:]]
    expected = _reference(copy.deepcopy(loss).double(), _double(student), _double(teacher))
    for name, value in loss.parts(student, teacher, _samples()).items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-7)


def test_a_student_of_another_size_is_resized_and_told_once(monkeypatch):
    messages = []
    monkeypatch.setattr(
        'dpk_mm.models.losses.fgd_loss.print_log', lambda text, **_: messages.append(text)
    )
    loss = _loss()
    student = _features(6, 1, [(5, 7), (4, 6), (3, 3)])
    teacher = _features(6, 2)
    resized = [
        torch.nn.functional.interpolate(s, size=t.shape[2:], mode='bilinear', align_corners=False)
        for s, t in zip(student, teacher, strict=True)
    ]
    for _ in range(2):
        value = loss(student, teacher, _samples())
    torch.testing.assert_close(value, loss(resized, teacher, _samples()))
    assert len(messages) == 2
    assert 'level 0 from (5, 7) to (8, 12)' in messages[0]
    assert 'level 2 from (3, 3) to (2, 3)' in messages[1]


def test_temperature_reaches_the_attention():
    student, teacher = _features(6, 1), _features(6, 2)
    loss = _loss(temperature=0.8)
    expected = _reference(
        copy.deepcopy(loss).double(), _double(student), _double(teacher), temperature=0.8
    )
    for name, value in loss.parts(student, teacher, _samples()).items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-7)


def test_is_built_from_a_config():
    from mmrazor.registry import MODELS

    loss = MODELS.build(dict(type='FGDLoss', weights='dpk_faster_rcnn_r101_r18_code'))
    assert loss.weights == (2e-5, 2.5e-5, 2e-5, 2e-7)
    assert [level[:3] for level in loss.levels] == [(i, i, 1.0) for i in range(4)]


@pytest.mark.parametrize(
    ('student', 'teacher', 'message'),
    [
        (_features(6, 1)[:2], _features(6, 2), 'level 2 .* the student has 2 features'),
        (_features(6, 1), _features(6, 2)[:1], 'level 2 .* the teacher has 1 features'),
        (_features(5, 1), _features(6, 2), r"student's feature of level 0 .*\[N, 6, .*\[2, 5, 8,"),
        (_features(6, 1), _features(7, 2), r"teacher's feature of level 0 .*\[N, 6, .*\[2, 7, 8,"),
        ([f[:1] for f in _features(6, 1)], _features(6, 2), 'found 1 of the student and 2 of'),
    ],
)
def test_wrong_features_are_named(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        _loss()(student, teacher, _samples())


@pytest.mark.parametrize(
    ('samples', 'message'),
    [
        (None, 'needs data_samples .* found None'),
        (_samples()[:1], 'found 1 for 2 images'),
        (_samples(batch_input_shape=None), r"needs 'batch_input_shape' .* found \['img_shape'\]"),
        ([_samples()[0], DetDataSample()], "'gt_instances.bboxes' .* sample 1 has none"),
    ],
)
def test_wrong_samples_are_named(samples, message):
    with pytest.raises(ValueError, match=message):
        _loss()(_features(6, 1), _features(6, 2), samples)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(levels=()), r'levels .* is \(\)'),
        (dict(levels=(1, 1)), r'levels .* is \(1, 1\)'),
        (dict(levels=(-1,)), r'levels .* is \(-1,\)'),
        (dict(temperature=0), 'temperature .* is 0;'),
        (dict(loss_weight=-1), 'loss_weight .* is -1;'),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        _loss(**arguments)


def test_parts_by_level_are_those_of_each_level_alone():
    student, teacher = _features(6, 1), _features(6, 2)
    whole, split = _loss(levels=(0, 2)), _loss(levels=(0, 2), by_level=True)
    parts = split.parts(student, teacher, _samples())
    assert list(parts) == ['level0', 'level2']
    for level in (0, 2):
        alone = _loss(levels=(level,), trained=False)
        for kind in ('student_context', 'teacher_context'):
            trained = getattr(split, kind)[str(level)].state_dict()
            getattr(alone, kind)[str(level)].load_state_dict(trained)
        expected = alone(student, teacher, _samples())
        torch.testing.assert_close(parts[f'level{level}'], expected)
    torch.testing.assert_close(
        split(student, teacher, _samples()), whole(student, teacher, _samples())
    )
    nothing = _loss(levels=(1,), by_level=True, weights=dict(alpha=0, beta=0, gamma=0, lam=0))
    assert nothing.parts(student, teacher) == {'level1': 0}


def test_levels_of_two_strides_are_no_pair():
    """A pyramid that begins at stride 8 against one that begins at 4, paired by place."""
    levels = (0, 1)
    student = _features(6, 1, [(8, 12), (4, 6)])
    teacher = _features(6, 2, [(16, 24), (8, 12)])
    with pytest.raises(
        ValueError, match=r"level 0 compares the student's map of 8x12 with the teacher's of 16x24"
    ):
        _loss(levels=levels)(student, teacher, _samples())
    asked = [dict(index=index, resize=True) for index in levels]
    torch.manual_seed(0)
    value = _loss(levels=asked)(student, teacher, _samples())
    enlarged = [
        torch.nn.functional.interpolate(s, scale_factor=2, mode='bilinear', align_corners=False)
        for s in student
    ]
    torch.manual_seed(0)
    torch.testing.assert_close(value, _loss(levels=levels)(enlarged, teacher, _samples()))
    # by stride
    _loss(levels=[dict(student_index=0, teacher_index=1)])(student, teacher, _samples())


@pytest.mark.parametrize('resized', [False, True])
def test_float64_features_with_an_alignment(resized):
    loss = _loss(student_channels=4).double()
    sizes = [(7, 11), (4, 6), (2, 3)] if resized else None
    student = [f.double() for f in (_features(4, 1, sizes) if resized else _features(4, 1))]
    teacher = [f.double() for f in _features(6, 2)]
    parts = loss.parts(student, teacher, _samples())
    single = copy.deepcopy(loss).float()
    reference = single.parts([f.float() for f in student], [f.float() for f in teacher], _samples())
    for name, value in parts.items():
        torch.testing.assert_close(value.float(), reference[name], rtol=1e-4, atol=1e-6)
    loss(student, teacher, _samples()).backward()
    assert all(p.grad.dtype == torch.float64 for p in loss.parameters())


def test_in_float64_the_gradient_is_exact():
    loss = _loss(levels=(0,)).double()
    student, teacher = (_features(6, seed, [(2, 3)])[0].double() for seed in (1, 2))
    assert torch.autograd.gradcheck(
        lambda x: loss([x], [teacher], _samples()), student.requires_grad_()
    )


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_its_context_may_be_of_another_precision(dtype):
    """Where no convolution aligns the student, its feature came to the context blocks as it is."""
    student, teacher = _features(6, 1), _features(6, 2)
    exact = _loss().parts(student, teacher, _samples())
    loss = _loss().to(dtype)
    parts = loss.parts(student, teacher, _samples())
    for name, value in parts.items():
        assert value.item() == pytest.approx(exact[name].item(), rel=0.05)
    sum(parts.values()).backward()
    assert all(p.grad.isfinite().all() for p in loss.parameters())


@pytest.mark.parametrize('side', ['student', 'teacher'])
def test_one_side_may_be_in_float64(side):
    student, teacher = _features(6, 1), _features(6, 2)
    exact = _loss()(student, teacher, _samples())
    if side == 'student':
        student = [f.double() for f in student]
    else:
        teacher = [f.double() for f in teacher]
    torch.testing.assert_close(_loss()(student, teacher, _samples()).float(), exact)
