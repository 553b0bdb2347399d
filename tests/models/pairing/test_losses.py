import pytest
from mmrazor.registry import MODELS

from dpk_mm.errors import UsageError
from dpk_mm.models.pairing.levels import LevelPair
from dpk_mm.models.pairing.losses import METHODS, Fit, levels_for, make_losses, parse_method
from dpk_mm.models.pairing.probe import Feature, Look


def look(task, **kwargs):
    return Look(task, 'X', (224, 224), None, logits='fc', classes=5, embedding=16, **kwargs)


def pairs(source, own, given, shift=0):
    return [
        LevelPair(
            Feature(source, place + shift, width, (cells, cells), 224 / cells),
            Feature(source, place, wide, (cells, cells), 224 / cells),
        )
        for place, (cells, width, wide) in enumerate(zip((28, 14, 7), own, given, strict=True))
    ]


def fit(name, task='classifier', levels=None, **attributes):
    levels = levels or pairs('x', (8, 16, 24), (8, 32, 40))
    if task == 'classifier':
        levels = [LevelPair(*(f._replace(index=None) for f in level)) for level in levels]
    own = look(task, attributes=attributes)
    return Fit(levels, levels_for(name, levels, task), own, own)


@pytest.mark.parametrize(
    ('name', 'task'), [(name, task) for name in METHODS for task in METHODS[name].tasks]
)
def test_every_method_can_be_built(name, task):
    losses = make_losses(name, {}, fit(name, task))
    assert losses and all(key.startswith('loss_') for key in losses)
    for loss in losses.values():
        MODELS.build(dict(loss))


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        ('dpk', dict(dpk={})),
        ('kd+dpk', dict(kd={}, dpk={})),
        (dict(type='kd', tau=4.0), dict(kd=dict(tau=4.0))),
        (['at', dict(type='kd', tau=2.0)], dict(at={}, kd=dict(tau=2.0))),
    ],
)
def test_names(value, expected):
    assert parse_method(value) == expected


@pytest.mark.parametrize(
    ('value', 'words'),
    [
        ('dpk_fdg', 'no method .dpk_fdg.; did you mean dpk_fgd'),
        ('crd', 'crd needs the number of training images'),
        (3, 'model.method is 3, but a name'),
        (['kd', dict(type='kd', tau=2.0)], 'names kd twice'),
    ],
)
def test_names_that_are_refused(value, words):
    with pytest.raises(UsageError, match=words):
        parse_method(value)


def test_an_unknown_setting():
    with pytest.raises(UsageError, match='fgd does not take'):
        make_losses('fgd', dict(no_such=1), fit('fgd', 'detector'))


def test_indices_and_channels_by_side_and_level():
    levels = pairs('neck', (8, 8, 24), (8, 8, 40), shift=1)
    loss = make_losses('fgd', {}, fit('fgd', 'detector', levels))['loss_fgd']
    assert (loss['student_channels'], loss['teacher_channels']) == (8, 8)
    assert loss['levels'] == [
        dict(student_index=1, teacher_index=0),
        dict(student_index=2, teacher_index=1),
        dict(student_index=3, teacher_index=2, student_channels=24, teacher_channels=40),
    ]


def test_dpk_and_its_criterion_name_the_same_levels():
    levels = pairs('neck', (8, 8, 8), (8, 8, 8), shift=1)
    loss = make_losses('dpk_fgd', {}, fit('dpk_fgd', 'detector', levels))['loss_dpk']
    assert [*loss['transforms']] == ['P4', 'P5']
    assert [stage['teacher_index'] for stage in loss['transforms'].values()] == [1, 2]
    assert [level['teacher_index'] for level in loss['criterion']['levels']] == [0, 1, 2]


@pytest.mark.parametrize(
    ('family', 'weights', 'pkd'),
    [
        ('two_stage', 'dpk_two_stage_text', 6.0),
        ('one_stage', 'dpk_one_stage_text', 10.0),
        ('anchor_free', 'fgd_anchor_free_code', 10.0),
    ],
)
def test_published_weights_by_family(family, weights, pkd):
    found = make_losses('dpk_fgd', {}, fit('dpk_fgd', 'detector', family=family))
    assert found['loss_dpk']['criterion']['weights'] == weights
    found = make_losses('pkd', {}, fit('pkd', 'detector', family=family))
    assert found['loss_pkd']['loss_weight'] == pkd


def test_settings_win():
    found = make_losses('dpk', dict(encoder_depth=2, loss_weight=7.0), fit('dpk'))['loss_dpk']
    assert found['loss_weight'] == 7.0
    assert found['transforms']['last']['encoder_depth'] == 2
    assert [*found['transforms']] == ['last']


@pytest.mark.parametrize(
    ('name', 'indices'), [('at', [0, 1, 2]), ('fitnet', [1]), ('ft', [2]), ('vid', [0, 1, 2])]
)
def test_which_levels_of_a_classifier(name, indices):
    (loss,) = make_losses(name, {}, fit(name)).values()
    assert [stage['index'] for stage in loss['stages']] == indices
