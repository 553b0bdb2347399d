import pytest
from mmdet.models import RetinaNet
from torch import nn

from dpk_mm.errors import UsageError
from dpk_mm.models.pairing.networks import (
    inherited_model,
    read_network,
    with_type,
    without_scope,
)

NAME = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
MODEL = dict(type='RetinaNet', backbone=dict(type='ResNet', depth=18))


def test_a_name_of_a_zoo():
    for name in (NAME, NAME.removesuffix('.py')):
        network = read_network(name, 'model.teacher', None)
        assert (network.model.type, network.scope, network.model._scope_) == (
            'RetinaNet',
            'mmdet',
            'mmdet',
        )
        assert network.whole.train_dataloader.dataset.type == 'CocoDataset'


def test_a_config_that_is_given():
    network = read_network(MODEL, 'model.teacher', 'mmdet')
    assert (network.scope, network.whole, network.name) == ('mmdet', None, None)
    assert '_scope_' not in MODEL


def test_the_scope_of_a_type():
    kind = dict(type='mmpretrain.TimmClassifier', model_name='resnet18')
    assert read_network(kind, 'model.teacher', 'mmdet').scope == 'mmpretrain'


class Own(RetinaNet):
    pass


@pytest.mark.parametrize('kind', [RetinaNet, Own])
def test_the_scope_of_a_class(kind):
    network = read_network(dict(MODEL, type=kind), 'model.teacher', 'mmpretrain')
    assert (network.scope, network.model.type) == ('mmdet', kind)


def test_the_form_of_mmrazor():
    network = read_network(
        dict(cfg_path=NAME, pretrained=False, use_syncbn=True, _scope_='mmrazor'),
        'model.teacher',
        None,
    )
    assert network.model.type == 'RetinaNet'
    assert network.model.use_syncbn is True
    assert 'pretrained' not in network.model


def test_what_mmrazor_would_leave_out_of_its_form_is_refused():
    """It takes what stands beside cfg_path for defaults: a head of three classes would have eighty."""
    named = dict(cfg_path=NAME, bbox_head=dict(num_classes=3))
    with pytest.raises(UsageError, match='has cfg_path and bbox_head, which mmdet::retinanet/'):
        read_network(named, 'model.teacher', None)


def test_a_preprocessor_at_the_top():
    network = read_network('mmpretrain::resnet/resnet18_8xb32_in1k.py', 'model.teacher', None)
    assert network.model.data_preprocessor.type == 'ClsDataPreprocessor'
    assert network.model.data_preprocessor.mean == [123.675, 116.28, 103.53]


def test_a_file_and_a_student_in_it(tmp_path):
    path = tmp_path / 'distilled.py'
    path.write_text(
        f"default_scope = 'mmdet'\nmodel = dict(type='DPKDistill', _scope_='mmrazor', architecture="
        f"dict(_scope_='mmdet', **{MODEL!r}), teacher=None, distiller=None)"
    )
    assert read_network(str(path), 'model.teacher', None).model.type == 'RetinaNet'


@pytest.mark.parametrize(
    ('value', 'words'),
    [
        (
            'mmdet::retinanet/retinanet_r19_fpn_1x_coco.py',
            'did you mean mmdet::retinanet/retinanet_r18',
        ),
        ('mmdett::a.py', 'the package mmdett, which is not installed'),
        ('nowhere.py', 'there is no config nowhere.py'),
        (3, 'model.teacher is 3, but the config of a model'),
        (dict(type='UNet'), 'of no known package'),
        (dict(type=nn.Linear), 'model.teacher is a Linear of torch, but'),
    ],
)
def test_refused(value, words):
    with pytest.raises(UsageError, match=words):
        read_network(value, 'model.teacher', None)


def test_types_are_not_replaced():
    assert with_type(dict(type='Own'), 'mmpretrain').type == 'Own'
    assert 'type' not in with_type(dict(mean=[0]), 'mmdet')


def test_pretrained_weights_of_a_student_are_not_left_out_in_silence():
    named = dict(cfg_path='mmpretrain::resnet/resnet18_8xb32_in1k.py', pretrained=True)
    with pytest.raises(UsageError, match="the student's checkpoint as model.student_ckpt"):
        read_network(named, 'model.architecture', None)
    assert read_network(named, 'model.teacher', None).name == named['cfg_path']


def test_what_a_distillation_inherits(tmp_path):
    two, three = tmp_path / 'two.py', tmp_path / 'three.py'
    text = f"_base_ = {NAME!r}\nmodel = dict(_delete_=True, type='X', architecture=_base_.model)\n"
    two.write_text(text)
    three.write_text("_base_ = './two.py'\nmodel = dict(method='kd')\n")
    expected = without_scope(read_network(NAME, 'model.teacher', None).model)
    del expected['data_preprocessor']['type'], expected['type']
    for file in (two, three):
        found = inherited_model(str(file))
        assert found.pop('type') == 'RetinaNet'
        del found['data_preprocessor']['type']
        assert found == expected
    assert inherited_model(None) == inherited_model(str(tmp_path / 'gone.py')) == {}
    plain = tmp_path / 'plain.py'
    plain.write_text('model = dict()\n')
    assert inherited_model(str(plain)) == {}


def test_values_without_scopes():
    value = dict(_scope_='mmdet', parts=[dict(_scope_='mmdet', size=(1, 2))])
    assert without_scope(value) == dict(parts=[dict(size=(1, 2))])
