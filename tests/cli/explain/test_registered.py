import dpk_mm  # noqa: F401
from dpk_mm.cli.explain.registered import arguments_of, name_in_scope, names_of_kind, registries


def test_names_of_all_packages_with_their_scopes():
    assert {'model', 'hook', 'optimizer', 'transform'} <= set(registries())
    hooks = names_of_kind('hook')
    assert hooks['CheckpointHook'] == ['mmengine']
    assert hooks['CKAMaskRatioHook'] == ['mmrazor']
    assert names_of_kind('no kind') == {}


def test_a_name_has_a_scope_where_it_needs_one():
    assert name_in_scope('X', ['mmrazor'], 'mmdet') == 'mmrazor.X'
    assert name_in_scope('X', ['mmrazor', 'mmdet'], 'mmdet') == 'X'
    assert name_in_scope('X', ['mmengine'], 'mmdet') == 'X'


def test_arguments_with_those_of_the_bases():
    found = arguments_of('FasterRCNN')
    assert found[:2] == ['backbone', 'rpn_head'] and 'init_cfg' in found
    assert 'patch_size' in arguments_of('DPKTransform')
    assert arguments_of('NoSuchClass') == []
