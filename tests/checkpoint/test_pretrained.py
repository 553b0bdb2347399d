"""Configs without weights, entry by entry."""

import copy

import pytest
from mmengine.config import ConfigDict
from mmengine.model import PretrainedInit

from dpk_mm.checkpoint.pretrained import remove_pretrained

REMOTE, LOCAL = 'torchvision://resnet18', 'work/resnet18.pth'


def loading(checkpoint, kind='Pretrained'):
    return dict(type=kind, checkpoint=checkpoint)


def config():
    normal = dict(type='Normal', std=0.01)
    return ConfigDict(
        teacher_ckpt='https://x/y.pth',
        student_ckpt=LOCAL,
        architecture=dict(
            backbone=dict(type='ResNet', init_cfg=loading(REMOTE)),
            neck=dict(init_cfg=[normal, loading(REMOTE)]),
            bbox_head=dict(init_cfg=normal, pretrained=None),
        ),
        teacher=dict(
            backbone=dict(pretrained=True, init_cfg=loading(LOCAL, 'mmengine.PretrainedInit')),
            necks=[dict(pretrained=REMOTE), dict(init_cfg=[loading(LOCAL, PretrainedInit)])],
            head=dict(pretrained=False),
        ),
    )


NOTHING = dict(
    teacher_ckpt=None,
    student_ckpt=None,
    architecture=dict(
        backbone=dict(type='ResNet', init_cfg=None),
        neck=dict(init_cfg=[dict(type='Normal', std=0.01)]),
        bbox_head=dict(init_cfg=dict(type='Normal', std=0.01), pretrained=None),
    ),
    teacher=dict(
        backbone=dict(pretrained=False, init_cfg=None),
        necks=[dict(pretrained=None), dict(init_cfg=None)],
        head=dict(pretrained=False),
    ),
)


def test_everything_that_loads_goes():
    cfg = config()
    assert remove_pretrained(cfg) is True
    assert cfg.to_dict() == NOTHING
    assert remove_pretrained(cfg) is False


def test_files_of_this_machine_may_stay():
    cfg = config()
    assert remove_pretrained(cfg, remote_only=True) is True
    expected = copy.deepcopy(NOTHING)
    expected['student_ckpt'] = LOCAL
    expected['teacher']['backbone']['init_cfg'] = loading(LOCAL, 'mmengine.PretrainedInit')
    expected['teacher']['necks'][1]['init_cfg'] = [loading(LOCAL, PretrainedInit)]
    assert cfg.to_dict() == expected
    assert remove_pretrained(cfg, remote_only=True) is False


@pytest.mark.parametrize('node', [None, 3, 'text', [], ConfigDict(), dict(checkpoint=REMOTE)])
def test_what_loads_nothing(node):
    assert remove_pretrained(node) is False
