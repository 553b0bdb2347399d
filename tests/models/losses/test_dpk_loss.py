import math
from types import SimpleNamespace

import pytest
import torch
from mmrazor.registry import MODELS
from torch import nn

from dpk_mm.errors import UsageError
from dpk_mm.functional import random_mask
from dpk_mm.functional.feature_error import channel_scale, error_and_variance
from dpk_mm.models.loss_parts.stage import Stage
from dpk_mm.models.losses.dpk_loss import DPKLoss
from dpk_mm.models.losses.kd_loss import KDLoss
from dpk_mm.modules import CKAMaskRatio, FixedMaskRatio, build_mask
from dpk_mm.modules.transformer import Attention

SHAPES = [(8, 6), (4, 3), (3, 2)]
TINY = dict(
    student_channels=3,
    teacher_channels=5,
    embed_dims=8,
    encoder_depth=1,
    decoder_depth=1,
    num_heads=2,
    position_embedding='sinusoidal',
)


class Recorder(nn.Module):
    """Stands for FGDLoss: keeps what it is asked and gives two parts."""

    def parts(self, student_feats, teacher_feats, data_samples=None):
        self.seen = (student_feats, teacher_feats, data_samples)
        return dict(near=student_feats[1].sum(), far=student_feats[2].square().sum())


def _loss(ratio=0.5, transforms=None, **kwargs):
    torch.manual_seed(0)
    if transforms is None:
        transforms = dict(
            P4=dict(index=1, patch_size=2, **TINY), P5=dict(index=2, patch_size=1, **TINY)
        )
    loss = DPKLoss(transforms, **kwargs)
    loss.mask_ratio = FixedMaskRatio(ratio)
    return loss


def _features(channels, seed, n=2):
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, channels, *shape, generator=g) for shape in SHAPES)


def _hybrids(loss, student, teacher, ratio=0.5, places=None):
    """What the transforms give from the same random numbers."""
    places = places or dict(P4=(1, 1), P5=(2, 2))
    torch.manual_seed(9)
    return {n: loss.transforms[n](student[i], teacher[j], ratio) for n, (i, j) in places.items()}


def test_mse_over_the_full_map():
    loss = _loss()
    student, teacher = _features(3, 1), _features(5, 2)
    hybrids = _hybrids(loss, student, teacher)
    torch.manual_seed(9)
    parts = loss.parts(student, teacher)
    assert list(parts) == ['P4', 'P5']
    for name, index in dict(P4=1, P5=2).items():
        height, width = SHAPES[index]
        squares = ((hybrids[name] - teacher[index]) ** 2).sum()
        assert parts[name].item() == pytest.approx(squares.item() / (2 * 5 * height * width))


def test_weights_and_that_the_parts_sum_to_the_loss():
    student, teacher = _features(3, 1), _features(5, 2)
    loss = _loss()
    torch.manual_seed(9)
    plain = loss.parts(student, teacher)
    weighted = _loss(
        transforms=dict(
            P4=dict(index=1, patch_size=2, weight=0.25, **TINY),
            P5=dict(index=2, patch_size=1, **TINY),
        ),
        loss_weight=3.0,
    )
    torch.manual_seed(9)
    parts = weighted.parts(student, teacher)
    assert parts['P4'].item() == pytest.approx(0.75 * plain['P4'].item())
    assert parts['P5'].item() == pytest.approx(3 * plain['P5'].item())
    torch.manual_seed(9)
    total = weighted(student, teacher)
    assert total.shape == ()
    assert total.item() == pytest.approx(sum(parts.values()).item())


def test_the_criterion_gets_hybrids_in_their_places():
    criterion = Recorder()
    loss = _loss(criterion=criterion, loss_weight=0.5)
    student, teacher, samples = _features(3, 1), _features(5, 2), [object(), object()]
    hybrids = _hybrids(loss, student, teacher)
    torch.manual_seed(9)
    parts = loss.parts(list(student), list(teacher), samples)
    seen, seen_teacher, seen_samples = criterion.seen
    assert isinstance(seen, tuple) and len(seen) == 3
    assert seen[0] is student[0]
    torch.testing.assert_close(seen[1], hybrids['P4'])
    torch.testing.assert_close(seen[2], hybrids['P5'])
    assert all(torch.equal(a, b) for a, b in zip(seen_teacher, teacher, strict=True))
    assert seen_samples is samples
    assert parts['near'].item() == pytest.approx(0.5 * hybrids['P4'].sum().item(), abs=1e-5)
    far = 0.5 * hybrids['P5'].square().sum().item()
    assert parts['far'].item() == pytest.approx(far)
    torch.manual_seed(9)
    total = loss(student, teacher, samples)
    assert total.item() == pytest.approx(sum(parts.values()).item())


def _fgd(levels, **kwargs):
    weights = dict(alpha=0.0, beta=0.0, gamma=1.0, lam=0.0)  # attention alone needs no boxes
    return dict(
        type='FGDLoss',
        levels=levels,
        student_channels=3,
        teacher_channels=5,
        weights=weights,
        **kwargs,
    )


def test_a_stage_weight_is_the_factor_of_its_level_alone():
    student, teacher = _features(3, 1), _features(5, 2)
    plain = dict(P4=dict(index=1, **TINY), P5=dict(index=2, **TINY))
    heavy = dict(P4=dict(index=1, weight=10.0, **TINY), P5=dict(index=2, **TINY))
    parts = []
    for transforms in (plain, heavy):
        loss = _loss(transforms=transforms, criterion=_fgd((0, 1, 2), by_level=True))
        torch.manual_seed(9)
        parts.append(loss.parts(student, teacher))
    factors = {name: (parts[1][name] / parts[0][name]).item() for name in parts[0]}
    assert factors == pytest.approx(dict(level0=1.0, level1=10.0, level2=1.0))


def test_student_and_teacher_levels_of_other_indices_are_the_pair_that_was_named():
    transforms = dict(P4=dict(student_index=1, teacher_index=0, **TINY))
    levels = [dict(student_index=1, teacher_index=0), dict(index=2, resize=True)]
    student, teacher = _features(3, 1), tuple(reversed(_features(5, 2)))
    loss = _loss(transforms=transforms, criterion=_fgd(levels))
    hybrid = _hybrids(loss, student, teacher, places=dict(P4=(1, 0)))['P4']
    torch.manual_seed(9)
    value = loss(student, teacher)
    alone = MODELS.build(_fgd((0, dict(index=2, resize=True)), aligned_levels=(0,)))
    alone.align['2'].load_state_dict(loss.criterion.align['2'].state_dict())
    torch.testing.assert_close(value, alone((hybrid, None, student[2]), teacher))


def test_a_stage_whose_level_the_criterion_does_not_compare():
    transforms = dict(P4=dict(index=1, **TINY))
    with pytest.raises(ValueError, match=r'compares the levels \[0, 2\], and 1 is not among them'):
        _loss(transforms=transforms, criterion=_fgd((0, 2)))


def test_a_criterion_config_is_built_and_aligns_the_other_levels_only():
    cfg = dict(type='FGDLoss', levels=(0, 1, 2), student_channels=3, teacher_channels=5)
    loss = _loss(criterion=cfg)
    assert [level.student for level in loss.criterion.levels] == [0, 1, 2]
    assert loss.criterion.aligned_levels == {1, 2}
    assert 'aligned_levels' not in cfg
    own = _loss(criterion=dict(cfg, aligned_levels=(0, 1, 2)))
    assert own.criterion.aligned_levels == {0, 1, 2}


@pytest.mark.parametrize('kind', ['LevelPKDLoss', 'CWDLoss', 'KDLoss', 'mmrazor.KDLoss', KDLoss])
def test_a_criterion_that_would_align_hybrids_is_refused(kind):
    with pytest.raises(
        UsageError, match='takes no aligned_levels.* take FGDLoss or TeacherHeadLoss'
    ):
        _loss(criterion=dict(type=kind))


def test_a_criterion_of_ones_own_that_is_told_the_levels():
    @MODELS.register_module(force=True)
    class OwnCriterion(Recorder):
        def __init__(self, **kwargs):
            super().__init__()
            self.given = kwargs

    assert _loss(criterion=dict(type='OwnCriterion')).criterion.given == dict(aligned_levels=(1, 2))
    with pytest.raises(KeyError, match='OwnCriterium'):  # an unknown name is the registry's
        _loss(criterion=dict(type='OwnCriterium'))


def test_different_places_on_both_sides_and_a_resized_student():
    cfg = dict(student_index=0, teacher_index=-1, patch_size=2, resize=True, **TINY)
    loss = _loss(transforms=dict(P5=cfg, P4=None))
    student, teacher = _features(3, 1), _features(5, 2)
    hybrid = _hybrids(loss, student, teacher, places=dict(P5=(0, -1)))['P5']
    assert hybrid.shape == teacher[-1].shape
    torch.manual_seed(9)
    parts = loss.parts(student, teacher)
    assert list(parts) == ['P5']
    assert parts['P5'].item() == pytest.approx((hybrid - teacher[-1]).square().mean().item())


def test_single_tensors_are_features_too():
    loss = _loss(transforms=dict(out=dict(index=0, **TINY)))
    student, teacher = _features(3, 1)[2], _features(5, 2)[2]
    torch.manual_seed(9)
    value = loss(student, teacher)
    torch.manual_seed(9)
    assert torch.equal(value, loss((student,), (teacher,)))


def test_the_policy_sees_every_stage_and_gives_each_its_ratio():
    class Policy:
        def __call__(self, features):
            self.features = features
            return dict(P4=0.0, P5=1.0)

    loss = _loss()
    loss.mask_ratio = Policy()
    student, teacher = _features(3, 1), _features(5, 2)
    student = tuple(s.requires_grad_() for s in student)
    loss(student, teacher).backward()
    seen = loss.mask_ratio.features
    assert list(seen) == ['P4', 'P5']
    assert torch.equal(seen['P4'][0], student[1]) and torch.equal(seen['P5'][1], teacher[2])
    assert not seen['P4'][0].requires_grad
    # P4 is all student, P5 all teacher, and level 0 has no stage
    assert student[0].grad is None
    assert student[1].grad.abs().sum(1).bool().all()
    assert not student[2].grad.any()


@pytest.mark.parametrize('criterion', [None, Recorder()])
def test_gradient_to_student_and_transforms_never_to_the_teacher(criterion):
    loss = _loss(criterion=criterion)
    student = tuple(s.requires_grad_() for s in _features(3, 1))
    teacher = tuple(t.requires_grad_() for t in _features(5, 2))
    loss(student, teacher).backward()
    assert all(t.grad is None for t in teacher)
    assert student[1].grad.any() and student[2].grad.any()
    assert all(p.grad is not None for p in loss.parameters())


def test_without_a_hook_there_is_no_mask_ratio():
    loss = DPKLoss(dict(P5=dict(index=2, **TINY)))
    features = _features(3, 1, n=5), _features(5, 2, n=5)
    with pytest.raises(UsageError, match='no mask-ratio hook.*default_hooks = dict.mask_ratio='):
        loss(*features)
    loss.mask_ratio = CKAMaskRatio()
    assert math.isfinite(loss(*features).item())


def test_a_loss_that_masks_nothing_needs_no_hook():
    convolution = dict(type='ConvTransform', index=2, student_channels=3, teacher_channels=5)
    loss = DPKLoss(dict(P5=convolution))
    student, teacher = _features(3, 1), _features(5, 2)
    expected = (loss.transforms.P5(student[2], teacher[2], 0.0) - teacher[2]).square().mean()
    torch.testing.assert_close(loss(student, teacher), expected)


@pytest.mark.parametrize('side', ['student', 'teacher'])
@pytest.mark.parametrize('index', [3, -4])
def test_an_index_out_of_range(side, index):
    place = dict(student_index=0, teacher_index=0)
    place[f'{side}_index'] = index
    loss = _loss(transforms=dict(P5=dict(**place, **TINY)))
    message = rf'stage P5 has index {index}, but the {side} recorder gives 3 features.*0\.\.2'
    with pytest.raises(ValueError, match=message):
        loss(_features(3, 1), _features(5, 2))


@pytest.mark.parametrize(
    ('transforms', 'message'),
    [
        ({}, 'transforms names no stage'),
        (dict(P5=None), 'transforms names no stage'),
        (dict(P5=dict(**TINY)), r'transforms\.P5 needs index'),
        (dict(P5=dict(student_index=1, **TINY)), r'transforms\.P5 needs index'),
        (dict(P5=dict(index='1', **TINY)), r"index of transforms\.P5 must be a whole .* is '1'"),
        (dict(P5=dict(index=True, **TINY)), r'index of transforms\.P5 must be .* is True'),
        (
            dict(P5=dict(index=1, teacher_index=1.0, **TINY)),
            r"index of transforms\.P5 must be .* in the teacher's recorded tuple, but is 1.0",
        ),
        (dict(P5=dict(index=1, patchsize=2, **TINY)), r"transforms\.P5: .*'patchsize'"),
        (
            dict(P5=dict(index=1, **{**TINY, 'num_heads': 3})),
            r'transforms\.P5\.num_heads must divide',
        ),
        (
            dict(P4=dict(index=1, **{**TINY, 'position_grid': (14,)})),
            r'DPKLoss: transforms\.P4\.position_grid must be a whole number >= 1 or .* is \(14,\)',
        ),
        (
            dict(P4=dict(index=1, **{**TINY, 'position_grid': 0})),
            r'DPKLoss: transforms\.P4\.position_grid must be .*, but is 0\.$',
        ),
        (dict(P5=dict(index=1, student_channels=3)), r"transforms\.P5: .*'teacher_channels'"),
    ],
)
def test_transforms_that_do_not_fit(transforms, message):
    with pytest.raises(ValueError, match=message):
        DPKLoss(transforms)


def test_channels_that_do_not_fit_name_the_stage():
    with pytest.raises(ValueError, match=r'DPKLoss: stage P4: The student feature must be \[N, 3'):
        _loss()(_features(4, 1), _features(5, 2))


@pytest.mark.parametrize(
    ('stage', 'message'),
    [
        (dict(index=-1), 'index is -1'),
        (dict(student_index=1, teacher_index=2), 'teacher_index is 2, but the criterion compares'),
        (dict(index=1, weight=2.0), 'weight is 2.0'),
        (dict(index=2), 'index 2 is taken by P5'),
    ],
)
def test_what_a_criterion_over_levels_cannot_take(stage, message):
    transforms = dict(P5=dict(index=2, **TINY), P4=dict(**stage, **TINY))
    with pytest.raises(ValueError, match=f'transforms.P4: with a criterion, {message}'):
        DPKLoss(transforms, criterion=Recorder())


def _tokens(feature, extra):
    return torch.cat([torch.randn(2, extra, feature.shape[1]), feature.flatten(2).mT], 1)


@pytest.mark.parametrize('criterion', [False, True])
def test_tokens_of_transformers_are_maps_without_their_extra_tokens(criterion):
    recorder = Recorder() if criterion else None
    plain, tokens = (
        _loss(criterion=recorder),
        _loss(
            transforms=dict(
                P4=dict(index=1, patch_size=2, teacher_extra_tokens=2, teacher_grid=(4, 3), **TINY),
                P5=dict(index=2, patch_size=1, student_extra_tokens=1, student_grid=[3, 2], **TINY),
            ),
            criterion=recorder,
        ),
    )
    student, teacher = _features(3, 1), _features(5, 2)
    torch.manual_seed(9)
    expected = plain.parts(student, teacher)
    student = (*student[:2], _tokens(student[2], 1))
    teacher = (teacher[0], _tokens(teacher[1], 2), teacher[2])
    torch.manual_seed(9)
    torch.testing.assert_close(tokens.parts(student, teacher), expected)
    if criterion:
        assert recorder.seen[1][1].shape == (2, 5, 4, 3)


def test_tokens_that_do_not_fit_name_the_key():
    loss = _loss(transforms=dict(P5=dict(index=0, teacher_extra_tokens=1, **TINY)))
    student = torch.randn(2, 10, 3)
    message = r'DPKLoss: transforms\.P5\.student_extra_tokens is 0, .* 10 tokens .*extra_tokens=1'
    with pytest.raises(ValueError, match=message):
        loss(student, student)
    loss = _loss(transforms=dict(P5=dict(index=0, teacher_grid=(2, 2), **TINY)))
    message = r'DPKLoss: transforms\.P5\.teacher_grid is \(2, 2\), 4 patches'
    with pytest.raises(ValueError, match=message):
        loss(torch.randn(2, 9, 3), torch.randn(2, 9, 5))


@pytest.mark.parametrize('option', [dict(teacher_extra_tokens=1), dict(student_grid=(4, 3))])
def test_a_layout_of_tokens_for_a_map(option):
    loss = _loss(transforms=dict(P5=dict(index=2, **option, **TINY)))
    (key,) = option
    with pytest.raises(ValueError, match=rf'transforms\.P5\.{key} is .* no sequence of tokens'):
        loss(_features(3, 1), _features(5, 2))


@pytest.mark.parametrize(
    ('stage', 'message'),
    [
        (dict(student_extra_tokens=-1), 'student_extra_tokens must be a whole number .* is -1'),
        (dict(teacher_extra_tokens=1.0), 'teacher_extra_tokens must be a whole number .* is 1.0'),
        (dict(teacher_grid=(2,)), r'teacher_grid must be \(rows, columns\), but is \(2,\)'),
        (dict(teacher_grid=(0, 2)), r'teacher_grid must be \(rows, columns\), but is \(0, 2\)'),
    ],
)
def test_layouts_that_do_not_fit(stage, message):
    with pytest.raises(ValueError, match=rf'DPKLoss: transforms\.P5\.{message}'):
        DPKLoss(dict(P5=dict(index=0, **stage, **TINY)))


def _cells(mask, k, shape):
    """[N, L] -> [N, 1, H, W] with loops."""
    rows, columns = -(-shape[0] // k), -(-shape[1] // k)
    cells = torch.zeros(mask.shape[0], 1, *shape, dtype=torch.bool)
    for y in range(shape[0]):
        for x in range(shape[1]):
            cells[:, 0, y, x] = mask.view(-1, rows, columns)[:, y // k, x // k]
    return cells


def _spied(loss):
    """Keeps the mask that each stage's transform is given, and what it gives."""
    seen = {}
    for name, transform in loss.transforms.items():
        transform.register_forward_hook(
            lambda module, args, out, name=name: seen.update({name: (args[3], out)})
        )
    return seen


def test_mse_over_the_students_cells_only():
    loss = _loss(
        transforms=dict(
            P4=dict(index=1, patch_size=2, supervise='student', weight=0.5, **TINY),
            P5=dict(index=2, patch_size=1, supervise='full', **TINY),
        )
    )
    seen = _spied(loss)
    student, teacher = _features(3, 1), _features(5, 2)
    parts = loss.parts(student, teacher)
    mask, hybrid = seen['P4']
    kept = ~_cells(mask.as_bool(), 2, SHAPES[1])  # 4 x 3 cells: the last column's patches are cut
    assert 0 < kept.sum() < kept.numel()
    square = (hybrid - teacher[1]) ** 2
    expected = square[kept.expand_as(square)].mean().item()
    assert parts['P4'].item() == pytest.approx(0.5 * expected)
    assert parts['P4'].item() != pytest.approx(0.5 * square.mean().item())
    assert parts['P5'].item() == pytest.approx(((seen['P5'][1] - teacher[2]) ** 2).mean().item())


@pytest.mark.parametrize('ratio', [0.0, 1.0])
def test_the_students_cells_at_the_ends(ratio):
    loss = _loss(ratio, dict(P5=dict(index=2, supervise='student', **TINY)))
    student, teacher = _features(3, 1), _features(5, 2)
    value = loss(student, teacher)
    value.backward()
    assert all(p.grad is not None for p in loss.parameters())
    if ratio:
        assert value.item() == 0
    else:
        hybrid = _hybrids(loss, student, teacher, 0.0, dict(P5=(2, 2)))['P5']
        assert value.item() == pytest.approx(((hybrid - teacher[2]) ** 2).mean().item())


def test_a_criterion_sees_no_residual_in_the_masked_cells():
    criterion = Recorder()
    loss = _loss(
        transforms=dict(
            P4=dict(index=1, patch_size=2, supervise='student', **TINY),
            P5=dict(index=2, patch_size=1, **TINY),
        ),
        criterion=criterion,
    )
    seen = _spied(loss)
    student, teacher = _features(3, 1), _features(5, 2)
    loss(student, teacher)
    mixed, whole, _ = criterion.seen
    masked = _cells(seen['P4'][0].as_bool(), 2, SHAPES[1])
    assert torch.equal(mixed[1], torch.where(masked, teacher[1], seen['P4'][1]))
    assert torch.equal(mixed[2], seen['P5'][1]) and torch.equal(whole[1], teacher[1])


@pytest.mark.parametrize('mask', ['grid', 'block', dict(type='scores', score='gap', select='top')])
def test_the_stages_strategy_draws_its_mask(mask):
    loss = _loss(
        0.3,
        transforms=dict(
            P3=dict(index=0, patch_size=2, mask=mask, **TINY), P4=dict(index=1, **TINY)
        ),
    )
    seen = _spied(loss)
    student, teacher = _features(3, 1), _features(5, 2)
    torch.manual_seed(4)
    loss(student, teacher)
    torch.manual_seed(4)
    expected = build_mask(mask)(0.3, student[0], teacher[0], 2)
    assert torch.equal(seen['P3'][0].teacher, expected.teacher)
    assert seen['P3'][0].teacher.shape == (2, 4)  # of 4 x 3 tokens
    assert torch.equal(seen['P4'][0].teacher, random_mask(2, 12, 0.3).teacher)


def _samples(boxes):
    samples = []
    for b in boxes:
        sample = SimpleNamespace(
            metainfo=dict(batch_input_shape=(64, 48)), gt_instances=SimpleNamespace(bboxes=b)
        )
        samples.append(sample)
    return samples


def test_foreground_comes_from_the_data_samples():
    cfg = dict(index=0, mask=dict(type='scores', score='foreground', select='top'), **TINY)
    loss = _loss(0.25, dict(P3=cfg))
    seen = _spied(loss)
    # 64 x 48 pixels, 8 x 6 cells: cells (2, 1) to (4, 3), and none
    boxes = [torch.tensor([[8.0, 16.0, 23.0, 31.0]]), torch.zeros(0, 4)]
    loss(_features(3, 1), _features(5, 2), _samples(boxes))
    given = seen['P3'][0].as_bool().view(2, 8, 6)
    assert given.sum((1, 2)).tolist() == [12, 12]
    assert given[0, 2:5, 1:4].all()  # nine cells of the box, both ends included, and three more


def test_no_boxes_at_all_are_no_error():
    cfg = dict(type='scores', score='foreground')
    loss = _loss(0.5, dict(P3=dict(index=0, mask=cfg, **TINY)))
    assert loss(_features(3, 1), _features(5, 2), _samples([torch.zeros(0, 4)] * 2)).isfinite()


def test_uncertainty_comes_from_the_teachers_classifier():
    cfg = dict(index=2, mask=dict(type='scores', score='uncertainty', select='top'), **TINY)
    loss = _loss(1 / 3, dict(P5=cfg))
    seen = _spied(loss)
    student, teacher = _features(3, 1), _features(5, 2)
    weight, bias = nn.Parameter(torch.randn(9, 5)), nn.Parameter(torch.randn(9))
    loss(student, teacher, class_weight=weight, class_bias=bias).backward()
    logits = torch.einsum('nchw,kc->nkhw', teacher[2], weight) + bias.view(-1, 1, 1)
    entropy = torch.distributions.Categorical(logits=logits.movedim(1, -1)).entropy().flatten(1)
    expected = entropy.topk(2).indices.sort().values
    assert torch.equal(seen['P5'][0].teacher, expected)
    assert weight.grad is None


@pytest.mark.parametrize('kind', ['ConvTransform', 'DPKTransform'])
def test_a_stage_without_a_mask(kind):
    cfg = dict(type=kind, student_channels=3, teacher_channels=5)
    if kind == 'DPKTransform':
        cfg = dict(TINY, prior='none')
    loss = _loss(0.5, dict(P5=dict(index=2, **cfg)))
    seen = _spied(loss)
    student, teacher = _features(3, 1), _features(5, 2)
    value = loss(student, teacher)
    mask, out = seen['P5']
    assert mask is None
    assert value.item() == pytest.approx(((out - teacher[2]) ** 2).mean().item())


def _foreground(score):
    return dict(P5=dict(index=2, mask=dict(type='scores', score=score), **TINY))


@pytest.mark.parametrize(
    ('transforms', 'message'),
    [
        (
            _foreground('foreground'),
            r"transforms\.P5\.mask with score='foreground' needs data_samp",
        ),
        (
            _foreground('uncertainty'),
            r"transforms\.P5\.mask .* needs class_weight, .* source='head\.fc\.weight'",
        ),
        (
            dict(P5=dict(index=2, patch_size=4, **TINY)),
            r'transforms\.P5\.patch_size is 4, .* 3 x 2',
        ),
        (
            dict(P5=dict(index=2, patch_size=2, mask='grid', **TINY)),
            r"transforms\.P5\.mask is 'grid', .* the map has 2 x 1 tokens",
        ),
    ],
)
def test_what_shows_at_the_first_forward(transforms, message):
    with pytest.raises(ValueError, match=f'DPKLoss: {message}'):
        _loss(transforms=transforms)(_features(3, 1), _features(5, 2))


def test_a_classifier_that_does_not_fit_names_the_key():
    loss = _loss(transforms=_foreground('uncertainty'))
    with pytest.raises(ValueError, match=r'DPKLoss: transforms\.P5\.mask .* \[classes, 5\]'):
        loss(_features(3, 1), _features(5, 2), class_weight=torch.zeros(9, 4))


@pytest.mark.parametrize(
    ('stage', 'message'),
    [
        (dict(weight=-1.0), r'transforms\.P5\.weight must be a finite number >= 0, but is -1.0'),
        (dict(weight=math.nan), r'transforms\.P5\.weight must be a finite number >= 0, but is nan'),
        (dict(weight='1'), r"transforms\.P5\.weight must be a finite number >= 0, but is '1'"),
        (dict(weight=True), r'transforms\.P5\.weight must be a finite number >= 0, but is True'),
        (dict(type='DPKTransfrom'), r"transforms\.P5\.type is 'DPKTransfrom'.*'DPKTransform'\?"),
        (dict(mask='gird'), r"transforms\.P5\.mask is 'gird'.* did you mean 'grid'\? Known: rand"),
        (dict(mask=dict(type='scores', score='x')), r"transforms\.P5\.mask\.score is 'x'"),
        (
            dict(supervise='teacher'),
            r"transforms\.P5\.supervise must be one of \('full', 'student'",
        ),
        (dict(prior='ones'), r"transforms\.P5\.prior must be one of .* is 'ones'"),
        (dict(supervize='full'), r"transforms\.P5: .*'supervize'.* did you mean 'supervise'\?"),
        (dict(decoder_num_heads=3), r'transforms\.P5\.decoder_num_heads must divide .* is 3'),
        (dict(prior='none', mask='block'), r"transforms\.P5\.mask is 'block', but prior='none'"),
        (
            dict(prior='none', supervise='student'),
            r"transforms\.P5\.supervise is 'student', but prior='none' masks nothing; leave superv",
        ),
    ],
)
def test_stages_that_do_not_fit(stage, message):
    with pytest.raises(ValueError, match=f'DPKLoss: {message}'):
        DPKLoss(dict(P5=dict(index=0, **TINY, **stage)))


def test_maps_of_two_strides_are_no_pair():
    cfg = dict(student_index=2, teacher_index=0, patch_size=1, **TINY)
    student, teacher = _features(3, 1), _features(5, 2)
    with pytest.raises(
        ValueError, match=r'stage P4 compares .*another stride: give transforms\.P4 a student_index'
    ):
        _loss(transforms=dict(P4=cfg, P5=None))(student, teacher)
    _loss(transforms=dict(P4=dict(cfg, resize=True), P5=None))(student, teacher)


@pytest.fixture
def attended(monkeypatch):
    """How many tokens each attention saw."""
    seen = []
    run = Attention.forward

    def forward(self, x):
        seen.append(x.shape[1])
        return run(self, x)

    monkeypatch.setattr(Attention, 'forward', forward)
    return seen


@pytest.mark.parametrize('shape', [(3, 3), (4, 9), (21, 5), (40, 31), (1, 70)])
@pytest.mark.parametrize('supervise', ['full', 'student'])
def test_no_attention_sees_more_than_max_tokens(shape, supervise, attended):
    stage = dict(TINY, index=0, patch_size=1, max_tokens=12, supervise=supervise)
    loss = _loss(0.0, dict(P4=stage))
    student = torch.randn(2, 3, *shape, requires_grad=True)
    loss((student,), (torch.randn(2, 5, *shape),)).backward()
    # the student's encoder and the decoder; the teacher's has no token at ratio 0
    assert len(attended) == 2 and max(attended) <= 12
    assert student.grad.abs().sum((0, 1)).count_nonzero() == math.prod(shape)


def test_a_map_within_max_tokens_is_not_touched():
    student, teacher = _features(3, 1), _features(5, 2)
    values = []
    for limit in (None, 12):
        loss = _loss(transforms=dict(P5=dict(TINY, index=1, max_tokens=limit)))
        torch.manual_seed(3)
        values.append(loss(student, teacher))
    assert torch.equal(*values)


@pytest.mark.parametrize('side', [8, 4], ids=['as the teacher', 'half of it'])
def test_windows_are_samples_of_their_own(side):
    stage = dict(TINY, index=0, patch_size=2, max_tokens=4, resize=True)
    loss = _loss(0.0, dict(P4=stage))
    student, teacher = torch.randn(2, 3, side, side), torch.randn(2, 5, 8, 8)
    wide = nn.functional.interpolate(student, (8, 8), mode='bilinear', align_corners=False)
    total = 0.0
    for rows in (slice(0, 4), slice(4, 8)):
        for columns in (slice(0, 4), slice(4, 8)):
            part = (..., rows, columns)
            hybrid = loss.transforms['P4'](wide[part], teacher[part], 0.0)
            total += (hybrid - teacher[part]).square().sum()
    torch.testing.assert_close(loss((student,), (teacher,)), total / teacher.numel())


def test_max_tokens_that_do_not_fit():
    with pytest.raises(ValueError, match=r'transforms.P4.max_tokens must be a whole number'):
        _loss(transforms=dict(P4=dict(TINY, index=0, max_tokens=0)))
    mask = dict(type='scores', score='foreground')
    loss = _loss(transforms=dict(P4=dict(TINY, index=0, max_tokens=4, mask=mask)))
    student, teacher = _features(3, 1), _features(5, 2)
    with pytest.raises(ValueError, match=r'transforms.P4.max_tokens is 4, .* leave max_tokens out'):
        loss(student, teacher, _samples([torch.zeros(0, 4)] * 2))


def test_a_normalised_target_divides_each_channel_by_its_spread():
    student, teacher = _features(3, 1), _features(5, 2)
    teacher = tuple(t * torch.tensor([1.0, 10.0, 0.1, 3.0, 1.0]).view(1, 5, 1, 1) for t in teacher)
    stage = dict(index=1, patch_size=2, **TINY)
    loss = _loss(transforms=dict(P4=dict(stage, normalize_target=True)))
    hybrid = _hybrids(loss, student, teacher, places=dict(P4=(1, 1)))['P4']
    torch.manual_seed(9)
    found = loss.parts(student, teacher)['P4']
    expected = ((hybrid - teacher[1]) / channel_scale(teacher[1])).square().mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    # features of a hundredth have the same target
    small = _loss(transforms=dict(P4=dict(stage, normalize_target=True)))
    with torch.no_grad():
        small.transforms.P4.head.weight.mul_(0.01)
        small.transforms.P4.head.bias.mul_(0.01)
        small.transforms.P4.teacher_embed.proj.weight.mul_(100)
    torch.manual_seed(9)
    again = small.parts(student, tuple(t * 0.01 for t in teacher))['P4']
    assert again.item() == pytest.approx(found.item(), rel=1e-4)
    with pytest.raises(ValueError, match='normalize_target has no effect'):
        _loss(transforms=dict(P4=dict(stage, normalize_target=True)), criterion=Recorder())


def test_a_warm_up_of_the_modules_sends_nothing_to_the_student():
    loss = _loss(module_warmup=2)
    values, gradients = [], []
    for loss.module_warmup.iteration in range(3):
        student = tuple(f.requires_grad_() for f in _features(3, 1))
        teacher = _features(5, 2)
        loss.zero_grad()
        torch.manual_seed(9)
        total = loss(student, teacher)
        total.backward()
        values.append(total.item())
        gradients.append([f.grad is not None for f in student])
        assert all(p.grad is not None for p in loss.parameters())
    assert gradients == [[False] * 3, [False] * 3, [False, True, True]]
    assert values == [values[0]] * 3  # the loss itself is the same
    with pytest.raises(ValueError, match='DPKLoss: module_warmup needs iterations'):
        _loss(module_warmup={})


def test_a_warm_up_cuts_windows_only_where_it_measures(monkeypatch):
    loss = _loss(module_warmup=dict(iterations=10, error=0.1, interval=4))
    calls = []
    split = Stage.split
    monkeypatch.setattr(Stage, 'split', lambda *args: calls.append(1) or split(*args))
    counts = []
    for loss.module_warmup.iteration in (3, 4, 12):
        calls.clear()
        loss(_features(3, 1), _features(5, 2))
        counts.append(len(calls) / len(loss.stages))
    assert counts == [1, 2, 1]


def test_a_warm_up_measures_whole_maps_without_the_zeros_beyond_them():
    warmup = dict(iterations=10, error=0.1, interval=4)
    loss = _loss(transforms=dict(P4=dict(TINY, index=0, max_tokens=4)), module_warmup=warmup)
    with torch.no_grad():  # a constant hybrid, which is wrong in the zeros, too
        loss.transforms.P4.head.weight.zero_()
        loss.transforms.P4.head.bias.fill_(7.0)
    student, teacher = torch.randn(2, 3, 5, 3), torch.randn(2, 5, 5, 3)
    loss.module_warmup.iteration = 4
    loss((student,), (teacher,))
    error, variance = error_and_variance(torch.full_like(teacher, 7.0), teacher)
    assert loss.module_warmup.errors[0].item() == pytest.approx((error / variance).item())
