from dataclasses import replace

import pytest

from dpk_mm.errors import UsageError
from tools.experiments.methods import (
    CLASSIFICATION,
    DETECTION,
    METHODS,
    Facts,
    cross_entropy_weight,
    find_methods,
    fitting_methods,
)

FACTS = Facts(
    pair='cifar100/resnet56_resnet20',
    task=CLASSIFICATION,
    num_images=50000,
    num_classes=100,
    epochs=240,
    embedding=(64, 64),
    stages=((1, 2, 3), (1, 2, 3)),
    before=((16, 16),),
    preact=(True, True),
    teacher_bns=('layer1.8.bn2', 'layer2.8.bn2', 'layer3.8.bn2'),
    optimizer=dict(optimizer=dict(type='SGD', lr=0.05), clip_grad=dict(max_norm=5.0)),
)
IMAGENET = replace(FACTS, pair='imagenet/resnet34_resnet18', epochs=100, before=())


def losses(name, facts=FACTS):
    return METHODS[name].changes(facts)['model']['distiller']['distill_losses']


def test_names_are_checked_and_the_nearest_is_named():
    assert find_methods(['dkd', 'kd', 'dkd'], CLASSIFICATION) == ['dkd', 'kd']
    found = find_methods(['all'], CLASSIFICATION)
    assert {'kd', 'takd', 'eskd', 'dpk', 'ab', 'ft'} <= set(found) and len(found) >= 25
    with pytest.raises(UsageError, match='dkdd is no method of classification.*did you mean dkd'):
        find_methods(['dkdd'], CLASSIFICATION)


def test_the_published_weights_of_the_cross_entropy():
    published = {'kd': 0.1, 'kd_standardized': 0.1, 'hard': 0.5, 'takd': 0.1, 'eskd': 0.1}
    for name in find_methods(['all'], CLASSIFICATION):
        assert cross_entropy_weight(METHODS[name].changes(FACTS)) == published.get(name, 1.0)
    assert cross_entropy_weight(METHODS['kd'].changes(IMAGENET)) == 0.5


def test_settings_of_the_two_tasks():
    assert losses('kd')['loss_kd']['tau'] == 4.0 and losses('kd', IMAGENET)['loss_kd']['tau'] == 1.0
    assert losses('ofd')['loss_ofd']['loss_weight'] == 1e-3
    assert losses('reviewkd')['loss_reviewkd']['loss_weight'] == 0.6
    assert losses('nkd', IMAGENET)['loss_nkd']['gamma'] == 1.5
    mgd = losses('mgd_channels')['loss_mgd']
    assert (mgd['masked'], mgd['mask_ratio'], mgd['loss_weight']) == ('channels', 0.15, 1.2e-3)
    assert losses('mgd_channels', IMAGENET)['loss_mgd']['loss_weight'] == 7e-5
    assert losses('ickd')['loss_ickd']['loss_weight'] == 2.5
    ickd = losses('ickd', IMAGENET)
    assert (ickd['loss_ickd']['loss_weight'], ickd['loss_kd']['loss_weight']) == (500.0, 0.5)
    assert cross_entropy_weight(METHODS['ickd'].changes(IMAGENET)) == 0.5
    afd = losses('afd')
    assert (afd['loss_afd']['loss_weight'], afd['loss_kd']['loss_weight']) == (200.0, 0.9)
    assert losses('tofd')['loss_kd']['loss_weight'] == pytest.approx(1 / 9)


def test_small_detectors_have_the_weights_published_for_coco():
    for pair, fgd, dpk in (
        ('faster_rcnn', 'fgd_two_stage', 'dpk_two_stage_text'),
        ('retinanet', 'fgd_one_stage_paper', 'dpk_one_stage_text'),
    ):
        facts = replace(FACTS, pair=f'mini/{pair}', task=DETECTION)
        assert losses('fgd', facts)['loss_fgd']['weights'] == fgd
        assert losses('dpk_fgd', facts)['loss_dpk']['criterion']['weights'] == dpk


@pytest.mark.parametrize(('epochs', 'warmup'), [(240, 20), (24, 2), (3, 1)])
def test_warm_ups_are_the_published_share_of_the_training(epochs, warmup):
    for name, loss in (('dkd', 'loss_dkd'), ('reviewkd', 'loss_reviewkd')):
        assert losses(name, replace(FACTS, epochs=epochs))[loss]['warmup'] == warmup


def test_all_methods_are_those_that_fit_the_pair():
    names = find_methods(['all'], CLASSIFICATION)
    found, left_out = fitting_methods(names, FACTS, dict(assistants=[dict()]))
    assert found == names and not left_out
    without = replace(FACTS, preact=(False, False))
    found, left_out = fitting_methods(names, without, {}, 'teacher.pth')
    assert set(left_out) == {'ab', 'ofd', 'reviewkd', 'takd', 'eskd'}
    assert sorted([*found, *left_out]) == sorted(names)
    boxes = Facts('mini/faster_rcnn', DETECTION, 500, 5, 6)
    found, left_out = fitting_methods(find_methods(['all'], DETECTION), boxes, {})
    assert set(left_out) == {'crosskd'} and 'RetinaNet' in left_out['crosskd']
    assert {'fgd', 'dpk_fgd', 'pkd', 'cwd', 'mgd', 'fgfi', 'gid', 'agnl'} == set(found)


@pytest.mark.parametrize('name', ['ab', 'ft'])
def test_first_stages_are_an_eighth_of_the_training(name):
    changes = METHODS[name].first_stage(FACTS)
    assert changes['train_cfg']['max_epochs'] == 30


def test_the_first_stage_of_ab_has_no_loss_of_the_student():
    changes = METHODS['ab'].first_stage(FACTS)
    assert changes['model']['calculate_student_loss'] is False
    for side in ('architecture', 'teacher'):
        assert changes['model'][side]['backbone'] == dict(out_indices=(1, 2, 3), preact=True)


def test_features_before_the_relu_need_networks_that_give_them():
    without = replace(FACTS, preact=(True, False))
    with pytest.raises(UsageError, match='loss_ofd compares features before the ReLU.*teacher'):
        METHODS['ofd'].changes(without)


def test_stages_that_cannot_be_asked_for_are_left_as_the_pair_has_them():
    changes = METHODS['at'].changes(replace(FACTS, stages=None, before=()))
    assert 'architecture' not in changes['model']
    assert len(changes['model']['distiller']['distill_losses']['loss_at']['stages']) == 2


def test_the_modules_of_dpk_have_an_optimizer_of_their_own():
    wrapper = METHODS['dpk'].changes(FACTS)['optim_wrapper']
    assert wrapper['architecture'] == dict(optimizer=FACTS.optimizer['optimizer'])
    assert wrapper['distiller']['optimizer']['type'] == 'AdamW'
    assert wrapper['clip_grad'] == dict(max_norm=5.0)
    adamw = replace(FACTS, optimizer=dict(optimizer=dict(type='AdamW', lr=1e-3)))
    assert 'optim_wrapper' not in METHODS['dpk'].changes(adamw)
