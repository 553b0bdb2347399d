"""The weights of stages and of published methods, by value."""

import pytest
import torch
from mmrazor.registry import MODELS

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError
from dpk_mm.models import methods
from dpk_mm.models.methods import DKD_BETA, dpk, dpk_fgd, fgd, level_weights
from dpk_mm.models.pairs import PAIRS
from dpk_mm.modules import CKAMaskRatio

PAIR = 'cifar100/resnet56_resnet20'


def parts(**kwargs):
    small = dict(encoder_depth=1, decoder_depth=1, position_embedding='sinusoidal')
    torch.manual_seed(0)
    loss = MODELS.build(dpk(PAIR, **small, **kwargs)['loss_dpk'])
    loss.mask_ratio = CKAMaskRatio()
    draw = torch.Generator().manual_seed(1)
    sides = [
        [torch.randn(4, c, s, s, generator=draw) for c, s in ((32, 16), (64, 8))] for _ in range(2)
    ]
    torch.manual_seed(2)
    return {name: value.item() for name, value in loss.parts(*sides).items()}


def test_the_authors_weight_of_the_second_last_stage_on_cifar():
    plain, weighted = parts(), parts(stage_weights='cifar_code')
    assert weighted['second_last'] == pytest.approx(0.6 * plain['second_last'])
    assert weighted['last'] == pytest.approx(plain['last'])
    assert parts(stage_weights=dict(second_last=0.6)) == pytest.approx(weighted)
    assert list(dpk(PAIR, ('last',), stage_weights='cifar_code')['loss_dpk']['transforms']) == [
        'last'
    ]


@pytest.mark.parametrize(
    ('weights', 'message'),
    [
        ('cifar', 'the sets are cifar_code'),
        ('imagenet', r'the sets are cifar_code\.$'),
        (dict(second=0.6), "names 'second', but the stages"),
    ],
)
def test_unknown_weights(weights, message):
    with pytest.raises(UsageError, match=message):
        dpk(PAIR, stage_weights=weights)


def test_pairs_of_two_strides_ask_for_it():
    asked = dpk('cifar100/vgg13_mobilenetv2')['loss_dpk']['transforms'].values()
    assert [stage.get('resize') for stage in asked] == [True, True]
    plain = dpk(PAIR)['loss_dpk']['transforms'].values()
    assert [stage.get('resize') for stage in plain] == [None, None]


@pytest.mark.parametrize(
    ('method', 'pair', 'expected'),
    [
        ('pkd', 'coco/faster_rcnn', dict(type='LevelPKDLoss', loss_weight=6.0)),
        ('pkd', 'coco/retinanet', dict(type='LevelPKDLoss', loss_weight=10.0)),
        ('cwd', 'coco/faster_rcnn', dict(type='CWDLoss', loss_weight=10.0, tau=1.0)),
        ('mgd', 'coco/faster_rcnn', dict(loss_weight=5e-7, mask_ratio=0.45)),
        ('mgd', 'coco/retinanet', dict(loss_weight=2e-5, mask_ratio=0.65)),
        ('fgfi', 'coco/retinanet', dict(loss_weight=0.01, anchors='coco/retinanet')),
        ('gid', 'coco/faster_rcnn', dict(type='GIDLoss', loss_weight=1.0)),
        ('agnl', 'coco/faster_rcnn', dict(type='AGNLLoss', weights='agnl_two_stage')),
        ('agnl', 'coco/retinanet', dict(type='AGNLLoss', weights='agnl_one_stage')),
    ],
)
def test_methods_of_detectors_have_their_published_weights(method, pair, expected):
    (name,) = losses = getattr(methods, method)(pair)
    assert name == f'loss_{method}'
    assert expected.items() <= losses[name].items()
    levels = range(4 if pair.endswith('faster_rcnn') else 5)
    assert tuple(losses[name]['levels']) == tuple(levels)
    assert losses[name]['student_channels'] == losses[name]['teacher_channels'] == 256
    changed = getattr(methods, method)(pair, loss_weight=7.0, levels=(1,))[name]
    assert (changed['loss_weight'], changed['levels']) == (7.0, (1,))
    assert MODELS.build(dict(changed, levels=(1,))).loss_weight == 7.0


def test_crosskd_is_for_dense_heads():
    loss = MODELS.build(methods.crosskd('coco/retinanet')['loss_crosskd'])
    assert (loss.split, loss.beta, loss.weights, loss.loss_weight) == (3, 1.0, None, 1.0)
    assert methods.crosskd('mini/retinanet', split=1, beta=2.0)['loss_crosskd']['beta'] == 2.0
    with pytest.raises(UsageError, match='has a head for regions; use a pair of RetinaNet or GFL'):
        methods.crosskd('coco/faster_rcnn')
    with pytest.raises(UsageError, match='CrossKD compares levels of a detector, but'):
        methods.crosskd('cifar100/resnet56_resnet20')


@pytest.mark.parametrize('method', ['pkd', 'cwd', 'mgd', 'fgfi', 'gid', 'fgd', 'agnl'])
def test_methods_of_detectors_refuse_a_pair_of_classifiers(method):
    arguments = ['fgd_two_stage'] if method == 'fgd' else []
    with pytest.raises(UsageError, match=f'{method.upper()} compares levels of a detector, but'):
        getattr(methods, method)('cifar100/resnet56_resnet20', *arguments)


# what public codes run, on CIFAR-100 or where they have one setting
PUBLISHED = {
    'kd_standardized': ((), dict(loss_kd=dict(tau=2.0, loss_weight=9.0, standardize=True))),
    'dkd': ((PAIR,), dict(loss_dkd=dict(tau=4.0, alpha=1.0, beta=2.0, loss_weight=1.0))),
    'nkd': ((), dict(loss_nkd=dict(tau=1.0, gamma=1.5, loss_weight=1.0))),
    'dist': ((), dict(loss_dist=dict(tau=1.0, beta=2.0, gamma=2.0, loss_weight=1.0))),
    'hard': ((), dict(loss_hard=dict(loss_weight=0.5))),
    'pkt': ((), dict(loss_pkt=dict(loss_weight=30000.0))),
    'sp': ((), dict(loss_sp=dict(indices=(-1,), loss_weight=3000.0))),
    'cc': ((64, 64), dict(loss_cc=dict(mode='code', loss_weight=0.02))),
    'rkd': ((), dict(loss_rkd=dict(loss_weight=1.0))),
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_settings(name):
    arguments, expected = PUBLISHED[name]
    built = {key: MODELS.build(cfg) for key, cfg in getattr(methods, name)(*arguments).items()}
    assert {
        key: {setting: getattr(built[key], setting) for setting in settings}
        for key, settings in expected.items()
    } == expected
    assert set(built) == set(expected)


def test_settings_that_lie_deeper():
    relations = MODELS.build(methods.rkd()['loss_rkd']).relations
    assert {name: part.loss_weight for name, part in relations.items()} == dict(
        distance=25.0, angle=50.0
    )
    assert MODELS.build(methods.dkd()['loss_dkd']).warmup.passes == 20
    assert MODELS.build(methods.cc(64, 32)['loss_cc']).teacher_embed.weight.shape == (128, 32)


def test_beta_of_dkd_by_pair():
    assert set(DKD_BETA) <= set(PAIRS)
    betas = [
        methods.dkd(*pair, **options)['loss_dkd']['beta']
        for pair, options in (
            ((), {}),
            (('cifar100/vgg13_vgg8',), {}),
            (('cifar100/resnet32x4_resnet8x4',), {}),
            (('cifar100/vgg13_vgg8',), dict(beta=0.5)),
        )
    ]
    assert betas == [8.0, 6.0, 8.0, 0.5]
    with pytest.raises(UsageError, match='vgg13_vgg9'):
        methods.dkd('cifar100/vgg13_vgg9')


def test_the_size_is_that_of_every_stage_and_an_argument_stands_above_it():
    stages = dpk(PAIR, size='small', decoder_depth=2)['loss_dpk']['transforms'].values()
    assert {(s['encoder_depth'], s['decoder_depth']) for s in stages} == {(1, 2)}
    loss = methods.dpk_fgd('coco/retinanet', 'dpk_one_stage_text', size='small')['loss_dpk']
    stages = loss['transforms'].values()
    assert {(s['encoder_depth'], s['decoder_depth']) for s in stages} == {(1, 1)}
    assert len(stages) == 4 and loss['criterion']['type'] == 'FGDLoss'


def test_levels_are_written_out_with_their_weights():
    losses = level_weights(fgd('mini/faster_rcnn', 'mini_two_stage'), {2: 10.0, 3: 0})
    assert losses['loss_fgd']['levels'] == [
        dict(index=0, weight=1.0),
        dict(index=1, weight=1.0),
        dict(index=2, weight=10.0),
        dict(index=3, weight=0.0),
    ]
    with pytest.raises(UsageError, match='loss_fgd has no level 7'):
        level_weights(fgd('mini/faster_rcnn', 'mini_two_stage'), {7: 1.0})


def test_levels_that_are_written_out_keep_what_they_say():
    first = dict(student_index=0, teacher_index=1, weight=3.0)
    losses = dict(loss_cwd=dict(type='CWDLoss', levels=[first, dict(index=2, resize=True), 3]))
    assert level_weights(losses, {2: 5})['loss_cwd']['levels'] == [
        first,
        dict(index=2, resize=True, weight=5.0),
        dict(index=3, weight=1.0),
    ]
    once = level_weights(fgd('mini/faster_rcnn', 'mini_two_stage'), {2: 10.0})
    assert level_weights(once) == once


@pytest.mark.parametrize('weights', [None, {2: 10.0}])
def test_losses_without_levels_have_none_to_weigh(weights):
    losses = fgd('mini/faster_rcnn', 'mini_two_stage') | methods.kd()
    with pytest.raises(UsageError, match=r'level_weights: loss_kd \(KDLoss\) has no levels, but'):
        level_weights(losses, weights)


def test_hybrids_alone_leave_the_other_levels_to_another_loss():
    losses = fgd('mini/faster_rcnn', 'mini_two_stage') | dpk_fgd(
        'mini/faster_rcnn', 'mini_two_stage', hybrids_alone=True
    )
    assert losses['loss_fgd']['levels'] == (0, 1, 2, 3)
    assert losses['loss_dpk']['criterion']['levels'] == (2, 3)
    assert set(losses['loss_dpk']['transforms']) == {'P4', 'P5'}
