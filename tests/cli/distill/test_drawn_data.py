from mmengine.config import Config

from dpk_mm.cli.distill.classes import count_classes
from dpk_mm.cli.distill.drawn_data import set_drawn_data
from dpk_mm.models.pairing.zoo import find_config


def test_a_detector_keeps_its_classes(tmp_path):
    from mmdet.registry import DATASETS

    cfg = Config.fromfile(find_config('mask-rcnn_r50_fpn_1x_coco', '--student').file)
    set_drawn_data(cfg, 'detection', tmp_path)
    assert count_classes(cfg) == 80
    built = DATASETS.build(
        dict(cfg.train_dataloader.dataset, pipeline=[], type='mmdet.CocoDataset')
    )
    assert len(built) == 8
    assert built.get_data_info(3)['instances'][0]['mask']


def test_a_classifier_keeps_its_classes(tmp_path):
    from mmpretrain.registry import DATASETS

    cfg = Config.fromfile(find_config('resnet18_8xb32_in1k', '--student').file)
    set_drawn_data(cfg, 'classification', tmp_path)
    built = DATASETS.build(
        dict(cfg.val_dataloader.dataset, pipeline=[], type='mmpretrain.CustomDataset')
    )
    assert (len(built), len(built.CLASSES)) == (8, 1000)
    assert [built.get_data_info(i)['gt_label'] for i in range(8)] == list(range(8))
