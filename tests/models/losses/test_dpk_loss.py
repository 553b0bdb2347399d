import math

import pytest
import torch
from torch import nn

from dpk_mm.models.losses.dpk_loss import DPKLoss
from dpk_mm.modules import CKAMaskRatio, FixedMaskRatio

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
    """Stands for FGDLoss: remembers what it is asked and gives two parts."""

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


def test_a_criterion_config_is_built_and_aligns_the_other_levels_only():
    cfg = dict(type='FGDLoss', levels=(0, 1, 2), student_channels=3, teacher_channels=5)
    loss = _loss(criterion=cfg)
    assert loss.criterion.levels == (0, 1, 2)
    assert loss.criterion.aligned_levels == {1, 2}
    assert 'aligned_levels' not in cfg
    own = _loss(criterion=dict(cfg, aligned_levels=(0, 1, 2)))
    assert own.criterion.aligned_levels == {0, 1, 2}


def test_different_places_on_both_sides_and_a_resized_student():
    cfg = dict(student_index=0, teacher_index=-1, patch_size=2, **TINY)
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


def test_without_a_hook_the_ratio_is_that_of_cka():
    loss = DPKLoss(dict(P5=dict(index=2, **TINY)))
    assert type(loss.mask_ratio) is CKAMaskRatio
    student, teacher = _features(3, 1, n=5), _features(5, 2, n=5)
    assert math.isfinite(loss(student, teacher).item())
    expected = CKAMaskRatio()(dict(P5=(student[2], teacher[2])))
    assert loss.mask_ratio.ratios == expected


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
        (dict(P5=dict(index=1, patchsize=2, **TINY)), r"transforms\.P5: .*'patchsize'"),
        (
            dict(P5=dict(index=1, **{**TINY, 'num_heads': 3})),
            r'transforms\.P5: num_heads must divide',
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
        (dict(student_index=1, teacher_index=2), 'student_index 1 and teacher_index 2 must be'),
        (dict(index=1, weight=2.0), 'weight is 2.0'),
        (dict(index=2), 'index 2 is taken by P5'),
    ],
)
def test_what_a_criterion_over_levels_cannot_take(stage, message):
    transforms = dict(P5=dict(index=2, **TINY), P4=dict(**stage, **TINY))
    with pytest.raises(ValueError, match=f'transforms.P4: with a criterion, {message}'):
        DPKLoss(transforms, criterion=Recorder())
