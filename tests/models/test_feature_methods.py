"""What the methods' functions take from a pair."""

import pytest
from mmrazor.registry import MODELS

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError
from dpk_mm.models import methods

SAME = 'cifar100/resnet56_resnet20'
HALF = 'cifar100/resnet32x4_shufflenetv1'
FEATURES = ['fitnet', 'at', 'ab', 'ft', 'vid', 'ofd', 'reviewkd', 'ickd', 'afd']


@pytest.mark.parametrize('method', FEATURES)
@pytest.mark.parametrize('pair', [SAME, HALF, 'imagenet/resnet50_resnet18', 'mini/fashion_cnn'])
def test_losses_of_features_are_built_for_any_pair_of_classifiers(method, pair):
    for name, cfg in getattr(methods, method)(pair).items():
        assert name == f'loss_{method}'
        loss = MODELS.build(dict(cfg, _scope_='mmrazor'))
        assert {stage.scale for stage in loss.stages} == {0.5 if pair == HALF else 1}


def test_channels_are_the_pairs_and_what_the_records_hold_before_moves_the_places():
    first = dict(index=0, student_channels=24, teacher_channels=64)
    second = dict(index=1, student_channels=480, teacher_channels=128, scale=0.5)
    third = dict(index=2, student_channels=960, teacher_channels=256, scale=0.5)
    assert methods.vid(HALF, before=[(24, 64)])['loss_vid']['stages'] == [first, second, third]
    # a method of one stage does not compare what stands before it
    assert methods.ickd(HALF, before=[(24, 64)])['loss_ickd']['stages'] == [third]
    assert methods.fitnet(SAME)['loss_fitnet']['stages'] == [
        dict(index=0, student_channels=32, teacher_channels=32)
    ]
    assert methods.at(SAME, stages=['last'])['loss_at']['stages'] == [dict(index=1)]


def test_what_the_classifiers_read_may_have_channels_of_its_own():
    stages = methods.reviewkd(HALF, pooled_channels=(1024, 256))['loss_reviewkd']['stages']
    assert stages[-1] == dict(
        index=-1, student_channels=1024, teacher_channels=256, scale=0.5, pooled=True
    )
    assert len(methods.reviewkd(SAME, pooled_index=None)['loss_reviewkd']['stages']) == 2


def test_margins_name_the_teachers_norms():
    stages = methods.ofd(SAME, ['layer2.8.bn2', 'layer3.8.bn2'])['loss_ofd']['stages']
    assert [stage['teacher_bn'] for stage in stages] == ['layer2.8.bn2', 'layer3.8.bn2']
    with pytest.raises(UsageError, match='teacher_bns of .* has 1 names, but 2 stages'):
        methods.ofd(SAME, ['layer3.8.bn2'])


def test_manifold_takes_the_extra_tokens_of_the_pair():
    stages = methods.manifold('imagenet/cait-s24_deit-t')['loss_manifold']['stages']
    assert stages == [dict(index=i, student_extra_tokens=1) for i in range(2)]
    assert len(methods.manifold('mini/fashion_vit', blocks=3)['loss_manifold']['stages']) == 3
    with pytest.raises(UsageError, match=r"stages=\('last',\) and blocks=3"):
        methods.manifold('mini/fashion_vit', ('last',), blocks=3)


def test_tofd_has_a_branch_for_each_stage_but_the_last():
    cfg = methods.tofd(SAME, 100, before=[(16, 16)])['loss_tofd']
    branches = MODELS.build(dict(cfg, _scope_='mmrazor')).branches['student']
    assert [branch.classify is not None for branch in branches.values()] == [True, True, False]


def test_crd_compares_what_the_classifiers_read():
    cfg = methods.crd(HALF, 50000, channels=(1024, 256))['loss_crd']
    assert MODELS.build(dict(cfg, _scope_='mmrazor')).embed['student'].in_features == 1024
    assert methods.crd(SAME, 9)['loss_crd']['student_channels'] == 64


@pytest.mark.parametrize('method', [*FEATURES, 'manifold'])
def test_pairs_that_do_not_fit(method):
    with pytest.raises(UsageError, match='is a pair of detectors'):
        getattr(methods, method)('coco/retinanet')
    with pytest.raises(UsageError, match="has no stage 'first'; choose from second_last, last"):
        getattr(methods, method)(SAME, stages=['first'])


def test_mgd_masks_channels_of_the_last_stage():
    cfg = methods.mgd_channels(SAME, before=[(16, 16)])['loss_mgd']
    assert cfg['levels'] == [dict(index=2, student_channels=64, teacher_channels=64)]
    loss = MODELS.build(dict(cfg, _scope_='mmrazor'))
    assert (loss.masked, loss.fixed_ratio, loss.loss_weight) == ('channels', 0.15, 7e-5)
    with pytest.raises(UsageError, match='maps of one size'):
        methods.mgd_channels(HALF)
