import pytest
from mmdet.datasets import CocoDataset
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


def test_those_of_a_data_set_given_as_its_class():
    assert class_names(cfg(type=CocoDataset)) == list(CocoDataset.METAINFO['classes'])


def test_those_that_mmpretrains_data_sets_are_given(tmp_path):
    """As its BaseDataset has it: before those of the class, after those of metainfo."""
    given = dict(type='mmpretrain.ImageNet', classes=('a', 'b'))
    assert class_names(cfg(**given)) == ['a', 'b']
    assert class_names(cfg(**given, metainfo=dict(classes=['x', 'y']))) == ['x', 'y']
    file = tmp_path / 'names.txt'
    given['classes'] = str(file)
    assert class_names(cfg(**given)) is None  # of a teacher that was trained elsewhere
    file.write_text('a b\nc\n')
    assert class_names(cfg(**given)) == ['a b', 'c']


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
