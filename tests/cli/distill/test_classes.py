import pytest
from mmengine.config import Config

from dpk_mm.cli.distill.classes import count_classes, fitting_topk, set_classes, task_of
from dpk_mm.cli.distill.own_data import OwnData
from dpk_mm.errors import UsageError
from dpk_mm.models.pairing.zoo import find_config

DATA = OwnData('detection', ('a', 'b', 'c'), {})
IMAGES = OwnData('classification', ('a', 'b', 'c'), {})


def read(name):
    return Config.fromfile(find_config(name, '--student').file)


@pytest.mark.parametrize(
    ('name', 'places'),
    [
        ('retinanet_r18_fpn_1x_coco', ['model.bbox_head.num_classes']),
        (
            'cascade-rcnn_r50_fpn_1x_coco',
            [f'model.roi_head.bbox_head[{i}].num_classes' for i in range(3)],
        ),
        (
            'mask-rcnn_r50_fpn_1x_coco',
            ['model.roi_head.bbox_head.num_classes', 'model.roi_head.mask_head.num_classes'],
        ),
        ('dino-4scale_r50_8xb2-12e_coco', ['model.bbox_head.num_classes']),
    ],
)
def test_heads_of_detectors(name, places):
    cfg = read(name)
    assert count_classes(cfg) == 80
    assert set_classes(cfg, DATA) == places
    assert count_classes(cfg) == 3


def test_head_loss_and_preprocessor_of_a_classifier():
    cfg = read('resnet50_8xb256-rsb-a1-600e_in1k')
    places = set_classes(cfg, IMAGES)
    assert 'model.head.num_classes' in places and 'data_preprocessor.num_classes' in places
    assert cfg.model.head.topk == (1,) if 'topk' in cfg.model.head else True


def test_top_5_of_three_classes_says_nothing():
    assert fitting_topk((1, 5), 3) == (1,)
    assert fitting_topk((1, 5), 10) == (1, 5)
    assert fitting_topk(5, 4) == (1,)
    cfg = read('resnet18_8xb32_in1k')
    set_classes(cfg, IMAGES)
    assert cfg.model.head.topk == (1,)


def test_what_has_no_classes():
    with pytest.raises(UsageError, match='panoptic head'):
        set_classes(Config(dict(model=dict(panoptic_head=dict(num_things_classes=80)))), DATA)
    with pytest.raises(UsageError, match='no head of the model has num_classes'):
        set_classes(Config(dict(model=dict(type='RPN'))), DATA)


def test_tasks():
    assert task_of(read('retinanet_r18_fpn_1x_coco')) == 'detection'
    assert task_of(read('resnet18_8xb32_in1k')) == 'classification'
    with pytest.raises(UsageError, match='is the config of a distillation'):
        task_of(Config.fromfile('configs/dpk/faster_rcnn_r101_r50.py'))
    with pytest.raises(UsageError, match='a detector of mmdet or a classifier of mmpretrain'):
        task_of(Config(dict(default_scope='mmpretrain', model=dict(type='MAE'))))
