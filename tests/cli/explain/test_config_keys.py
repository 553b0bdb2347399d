from mmengine.config import Config

from dpk_mm.cli.explain.config_keys import (
    all_dicts,
    at_keys,
    is_type,
    keys_of_type,
    keys_with_argument,
)

CFG = Config(
    dict(
        model=dict(type='mmdet.Net', depth=1, parts=[dict(type='Part', depth=2), 3]),
        hooks=([dict(type=int, width=4)],),
    )
)


def test_every_dict_has_its_key_outer_ones_first():
    found = dict(all_dicts(CFG))
    assert list(found) == ['', 'model', 'model.parts.0', 'hooks.0.0']
    assert found['model.parts.0'] == dict(type='Part', depth=2)
    assert found['hooks.0.0']['width'] == 4


def test_types_with_a_scope_and_classes():
    assert is_type(dict(type='mmdet.Net'), 'Net') and is_type(dict(type=int), 'int')
    assert not is_type(dict(type='mmdet.Net'), 'mmdet') and not is_type({}, 'Net')
    assert keys_of_type('Net', CFG) == ['model']
    assert keys_of_type('int', CFG) == ['hooks.0.0']


def test_an_argument_is_that_of_its_type_if_there_is_one():
    assert keys_with_argument('Part', 'depth', CFG) == ['model.parts.0']
    assert keys_with_argument('Other', 'depth', CFG) == ['model', 'model.parts.0']
    assert keys_with_argument('Part', 'width', CFG) == ['hooks.0.0']


def test_the_start_of_a_sentence():
    assert at_keys([]) == ''
    assert at_keys(['a.b']) == 'a.b: '
    assert at_keys(key for key in 'abc') == 'a and 2 more: '
