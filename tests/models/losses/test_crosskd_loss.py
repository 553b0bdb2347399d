"""CrossKD against its formula written out anchor by anchor."""

import math
from types import SimpleNamespace

import pytest
import torch
from mmdet.models.dense_heads import GFLHead, RetinaHead
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from dpk_mm.errors import UsageError
from dpk_mm.models.losses.crosskd_loss import CrossKDLoss, generalised_iou
from tests.helpers.pyramid import check_against, features, samples

CLASSES = 3
STRIDES = [8, 16, 32]
TRAIN = ConfigDict(
    assigner=dict(
        type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1
    ),
    allowed_border=-1,
    pos_weight=-1,
)
HEADS = {
    'RetinaHead': dict(
        anchor_generator=dict(
            type='AnchorGenerator', scales=[2, 3], ratios=[0.5, 1.0], strides=STRIDES
        ),
        train_cfg=TRAIN,
    ),
    'GFLHead': dict(
        anchor_generator=dict(type='AnchorGenerator', scales=[4], ratios=[1.0], strides=STRIDES),
        reg_max=4,
        norm_cfg=dict(type='GN', num_groups=2),
        train_cfg=ConfigDict(TRAIN, assigner=dict(type='ATSSAssigner', topk=2)),
    ),
}


def detector(kind, in_channels, seed, **changes):
    torch.manual_seed(seed)
    cfg = dict(
        type=kind,
        num_classes=CLASSES,
        in_channels=in_channels,
        feat_channels=4,
        stacked_convs=2,
        init_cfg=None,
        _scope_='mmdet',
    )
    head = MODELS.build({**cfg, **HEADS[kind], **changes})
    for p in head.parameters():
        torch.nn.init.normal_(p, std=0.4)
    return SimpleNamespace(bbox_head=head)


def build(kind, weights=None, split=1, teacher=None, **kwargs):
    loss = CrossKDLoss(split=split, weights=weights, **kwargs)
    loss.prepare_from_student(detector(kind, 6, 0))
    loss.prepare_from_teacher(teacher or detector(kind, 8, 1))
    # as the algorithm has it
    loss._heads['teacher'].requires_grad_(False)
    return loss


def labelled():
    found = samples()
    for sample in found:
        count = len(sample.gt_instances.bboxes)
        sample.gt_instances.labels = torch.arange(count) % CLASSES
        sample.set_metainfo(dict(pad_shape=(64, 96)))
    return found


def stack(convs, x, count):
    """Convolutions by hand: conv, norm if any, and the ReLU of all but the last."""
    for place in range(count):
        module = convs[place]
        x = torch.nn.functional.conv2d(x, module.conv.weight, module.conv.bias, padding=1)
        if module.with_norm:
            x = module.norm(x)
        if place + 1 < count:
            x = x.clamp(min=0)
    return x


def rest(head, x, count, branch):
    convs = head.cls_convs if branch == 'cls' else head.reg_convs
    x = x.clamp(min=0) if count else x
    for place in range(count, len(convs)):
        x = stack(convs[place : place + 1], x, 1).clamp(min=0)
    names = ('retina_cls', 'retina_reg') if isinstance(head, RetinaHead) else ('gfl_cls', 'gfl_reg')
    last = getattr(head, names[branch != 'cls'])
    return torch.nn.functional.conv2d(x, last.weight, last.bias, padding=1)


def like(x, other):
    columns = []
    for c in range(x.shape[1]):
        a, b = x[:, c], other[:, c]
        columns.append((a - a.mean()) / (a.std() + 1e-6) * b.std() + b.mean())
    return torch.stack(columns, dim=1)


def giou(p, q):
    wide = max(0.0, min(p[2], q[2]) - max(p[0], q[0]))
    high = max(0.0, min(p[3], q[3]) - max(p[1], q[1]))
    union = (p[2] - p[0]) * (p[3] - p[1]) + (q[2] - q[0]) * (q[3] - q[1]) - wide * high
    hull = (max(p[2], q[2]) - min(p[0], q[0])) * (max(p[3], q[3]) - min(p[1], q[1]))
    return wide * high / union - (hull - union) / hull


def decode_retina(anchor, delta):
    x, y = (anchor[0] + anchor[2]) / 2, (anchor[1] + anchor[3]) / 2
    w, h = anchor[2] - anchor[0], anchor[3] - anchor[1]
    limit = abs(math.log(16 / 1000))
    x, y = x + w * delta[0], y + h * delta[1]
    w, h = w * delta[2].clamp(-limit, limit).exp(), h * delta[3].clamp(-limit, limit).exp()
    return torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2])


def decode_gfl(anchor, logits, stride):
    sides = logits.view(4, -1).softmax(1) @ torch.arange(logits.numel() // 4).to(logits)
    x, y = (anchor[0] + anchor[2]) / 2 / stride, (anchor[1] + anchor[3]) / 2 / stride
    return torch.stack([x - sides[0], y - sides[1], x + sides[2], y + sides[3]])


def at(maps, image, anchor, each, i, j):
    """What a map says of one anchor of a cell."""
    return maps[image, :, i, j].view(each, -1)[anchor]


def slow(kind, counted):
    """``counted``: by level which anchors count, and the number of positive ones."""
    weights_of_anchors, positives = counted

    def formula(loss, student, teacher):
        own, given = loss._heads['student'], loss._heads['teacher']
        own.double(), given.double()
        total = dict(cls=0.0, box=0.0, distribution=0.0, weight=0.0)
        for place, stride in enumerate(STRIDES):
            maps = {}
            for branch in ('cls', 'reg'):
                convs = [getattr(h, f'{branch}_convs') for h in (own, given)]
                s = stack(convs[0], student[place], loss.split)
                t = stack(convs[1], teacher[place], loss.split)
                sides = (
                    rest(given, like(s, t), loss.split, branch),
                    rest(given, t, loss.split, branch),
                )
                if kind == 'GFLHead' and branch == 'reg':
                    sides = tuple(given.scales[place].scale * side for side in sides)
                maps[branch] = sides
            n, _, h, w = maps['cls'][0].shape
            anchors = own.prior_generator.single_level_grid_priors((h, w), place, device='cpu')
            each = len(anchors) // (h * w)
            for image in range(n):
                for cell in range(h * w):
                    for a in range(each):
                        number = cell * each + a
                        counts = weights_of_anchors[place][image][number].item()
                        place_of = (image, a, each, cell // w, cell % w)
                        p, q = (at(side, *place_of) for side in maps['cls'])
                        q = q.detach().sigmoid()
                        for k in range(CLASSES):
                            bce = -q[k] * torch.log(p[k].sigmoid()) - (1 - q[k]) * torch.log(
                                1 - p[k].sigmoid()
                            )
                            focus = (q[k] - p[k].sigmoid()).abs() ** loss.beta
                            total['cls'] = total['cls'] + counts * focus * bce
                        weight = q.max() if counts else torch.tensor(0.0)
                        b, c = (at(side, *place_of) for side in maps['reg'])
                        c = c.detach()
                        anchor = anchors[number].double()
                        if kind == 'GFLHead':
                            for side in range(4):
                                x, y = (v.view(4, -1)[side].log_softmax(0) for v in (b, c))
                                kl = (y.exp() * (y - x)).sum()
                                total['distribution'] = total['distribution'] + weight * kl
                            b, c = (decode_gfl(anchor, v, stride) for v in (b, c))
                        else:
                            b, c = (decode_retina(anchor, v) for v in (b, c))
                        total['box'] = total['box'] + weight * (1 - giou(b, c))
                        total['weight'] = total['weight'] + weight
        over = total['weight'] if kind == 'GFLHead' else positives
        value = loss.weights['cls'] * total['cls'] / positives
        value = value + loss.weights['box'] * total['box'] / over
        if kind == 'GFLHead':
            value = value + loss.weights['distribution'] * total['distribution'] / (4 * over)
        return loss.loss_weight * value

    return formula


def counted(loss, data_samples):
    """As mmdet's own loss has it: by level label weights, and the number of positive anchors."""
    head = loss._heads['student']
    metas = [s.metainfo for s in data_samples]
    sizes = [(8, 12), (4, 6), (2, 3)]
    anchors, valid = head.get_anchors(sizes, metas, device='cpu')
    found = head.get_targets(anchors, valid, [s.gt_instances for s in data_samples], metas)
    if isinstance(head, GFLHead):
        return found[2], max(found[5], 1)
    return found[1], max(found[4], 1)


@pytest.mark.parametrize('kind', list(HEADS))
@pytest.mark.parametrize('split', [0, 1, 2])
def test_value_and_gradients_equal_a_slow_formula(kind, split):
    weights = dict(cls=0.7, box=1.3, distribution=0.4)
    student, teacher = features(6, 1), features(8, 2)
    if split == 0:  # then the necks' channels are those of the teacher's head
        student = features(8, 1)
    loss = CrossKDLoss(split=split, weights=weights, beta=1.5, loss_weight=2.0)
    loss.prepare_from_student(detector(kind, student[0].shape[1], 0))
    loss.prepare_from_teacher(detector(kind, 8, 1))
    loss._heads['teacher'].requires_grad_(False)
    data_samples = labelled()
    weights_of_anchors, positives = counted(loss, data_samples)
    assert positives > 1
    if kind == 'RetinaHead':  # some anchors overlap a box by between 0.4 and 0.5
        assert any((level == 0).any() for level in weights_of_anchors)
    formula = slow(kind, (weights_of_anchors, positives))
    check_against(loss, formula, student, teacher, data_samples, atol=1e-4)


def test_weights_are_those_published_for_the_kind_of_head():
    for kind, published in (('RetinaHead', (1.0, 1.0)), ('GFLHead', (1.0, 2.0, 3.0))):
        batch = features(6, 1), features(8, 2), labelled()
        plain = build(kind, dict(cls=1.0, box=1.0, distribution=1.0)).parts(*batch)
        found = build(kind).parts(*batch)
        assert len(found) == len(published)
        for name, weight in zip(found, published, strict=True):
            torch.testing.assert_close(found[name], weight * plain[name])


@pytest.mark.parametrize('kind', list(HEADS))
def test_a_student_that_is_the_teacher_has_nothing_to_learn(kind):
    teacher = detector(kind, 8, 1)
    loss = CrossKDLoss(split=1)
    loss.prepare_from_student(teacher)
    loss.prepare_from_teacher(teacher)
    feats = features(8, 2)
    parts = loss.parts(feats, feats, labelled())
    others = loss.parts(features(8, 3), feats, labelled())
    # not 0 to the digit, since the deviation has 1e-6 added
    assert all(value.item() < 1e-3 * others[name].item() for name, value in parts.items())


def test_equal_scores_have_a_finite_gradient():
    """Of an exponent below 1 it was NaN where both sigmoids are 1 to the last digit."""
    loss = build('RetinaHead', beta=0.5)
    torch.nn.init.constant_(loss._heads['teacher'].retina_cls.bias, 200.0)
    student = [f.requires_grad_() for f in features(6, 1)]
    parts = loss.parts(student, features(8, 2), labelled())
    assert parts['cls'].item() == 0
    sum(parts.values()).backward()
    assert all(f.grad.isfinite().all() for f in student) and student[0].grad.any()


def test_mean_and_scale_of_the_students_channels_do_not_matter():
    loss = build('RetinaHead')
    head = loss._heads['student']
    batch = features(6, 1), features(8, 2), labelled()
    before = loss(*batch)
    with torch.no_grad():
        for convs in (head.cls_convs, head.reg_convs):
            convs[0].conv.weight.mul_(3.0)
            convs[0].conv.bias.mul_(3.0).add_(1.0)
    torch.testing.assert_close(loss(*batch), before, rtol=1e-4, atol=1e-5)


def test_the_gradient_reaches_the_students_head_and_not_the_teachers():
    loss = build('RetinaHead')
    loss(features(6, 1), features(8, 2), labelled()).backward()
    student, teacher = loss._heads['student'], loss._heads['teacher']
    for convs in (student.cls_convs, student.reg_convs):
        assert convs[0].conv.weight.grad.abs().sum() > 0
        assert convs[1].conv.weight.grad is None  # the teacher's takes its place
    assert all(p.grad is None for p in teacher.parameters())
    assert list(loss.parameters()) == [] and loss.state_dict() == {}


def test_boxes_that_are_apart_have_a_negative_giou():
    first = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 4.0, 4.0]])
    second = torch.tensor([[0.0, 0.0, 2.0, 2.0], [2.0, 0.0, 3.0, 1.0], [1.0, 1.0, 3.0, 3.0]])
    torch.testing.assert_close(generalised_iou(first, second), torch.tensor([1.0, -1 / 3, 0.25]))


def test_images_without_a_box_have_a_loss():
    data_samples = labelled()
    for sample in data_samples:
        sample.gt_instances = InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
        )
    parts = build('RetinaHead').parts(features(6, 1), features(8, 2), data_samples)
    assert all(torch.isfinite(value) and value > 0 for value in parts.values())


@pytest.mark.parametrize(
    ('student', 'teacher', 'split', 'message'),
    [
        (None, SimpleNamespace(bbox_head=torch.nn.Linear(1, 1)), 1, 'needs a head of RetinaHead'),
        (None, SimpleNamespace(), 1, 'has none'),
        (None, 'GFLHead', 1, 'whose kind must be that of the student'),
        (None, dict(feat_channels=8), 1, 'whose feat_channels must be'),
        (None, dict(num_classes=5), 1, 'whose cls_out_channels must be'),
        (None, dict(norm_cfg=dict(type='BN')), 1, 'batch normalisation'),
        (None, {}, 3, 'split of CrossKDLoss is 3, but the heads have 2'),
    ],
)
def test_heads_that_do_not_fit_are_one_sentence(student, teacher, split, message):
    if isinstance(teacher, str):
        teacher = detector(teacher, 8, 1)
    elif isinstance(teacher, dict):
        teacher = detector('RetinaHead', 8, 1, **teacher)
    loss = CrossKDLoss(split=split)
    loss.prepare_from_student(detector('RetinaHead', 6, 0))
    with pytest.raises(UsageError, match=message):
        loss.prepare_from_teacher(teacher)


def test_sides_of_other_bins_are_refused():
    """They were read with the student's bins, and the loss ended in an error about the shape of a view."""
    loss = CrossKDLoss(split=1)
    loss.prepare_from_student(detector('GFLHead', 6, 0))
    with pytest.raises(UsageError, match='whose reg_max must be .* has 4 and the teacher 8'):
        loss.prepare_from_teacher(detector('GFLHead', 8, 1, reg_max=8))


def test_without_heads_or_with_other_sizes_it_says_what_to_do():
    batch = features(6, 1), features(8, 2), labelled()
    with pytest.raises(UsageError, match='CrossKDLoss has no heads; use it in a DPKDistiller'):
        CrossKDLoss()(*batch)
    with pytest.raises(UsageError, match='features of the same sizes'):
        build('RetinaHead')(features(6, 1), features(8, 2)[:2], labelled())


@pytest.mark.parametrize(
    'wrong', [dict(split=-1), dict(split=1.5), dict(beta=-1.0), dict(weights=dict(cls=1.0))]
)
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r'of CrossKDLoss must be'):
        CrossKDLoss(**wrong)
