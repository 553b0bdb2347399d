import pytest
from mmengine.config import Config

from dpk_mm.models.pairing.classes import class_names, first_difference


def cfg(**dataset):
    return Config(dict(default_scope='mmdet', train_dataloader=dict(dataset=dataset)))


def test_those_of_the_config():
    assert class_names(cfg(type='CocoDataset', metainfo=dict(classes=('a', 'b')))) == ['a', 'b']


def test_those_of_the_data_set():
    found = class_names(cfg(type='CocoDataset'))
    assert len(found) == 80
    assert found[0] == 'person'


def test_those_of_a_wrapped_one():
    inner = dict(type='CocoDataset', metainfo=dict(classes=['x']))
    assert class_names(cfg(type='RepeatDataset', dataset=inner)) == ['x']


@pytest.mark.parametrize('config', [None, Config({}), cfg(type='NoSuchDataset')])
def test_unknown(config):
    assert class_names(config) is None


@pytest.mark.parametrize(
    ('own', 'given', 'expected'),
    [
        (['a'], ['a'], None),
        (None, ['a'], None),
        (['a', 'b'], ['a'], '2 classes here and 1 of the teacher'),
        (['a', 'b'], ['a', 'c'], 'number 1 is b here and c of the teacher'),
    ],
)
def test_difference(own, given, expected):
    assert first_difference(own, given) == expected
