import pytest
from mmengine.config import Config

from dpk_mm.cli.distill.image_size import image_size, set_image_size
from dpk_mm.errors import UsageError
from dpk_mm.models.pairing.zoo import find_config


def read(name):
    return Config.fromfile(find_config(name, '--student').file)


def sizes(cfg, loader='train'):
    steps = cfg[f'{loader}_dataloader'].dataset.pipeline
    keys = ('scale', 'img_scale', 'crop_size', 'size')
    return [(step.type, step[key]) for step in steps for key in keys if key in step]


@pytest.mark.parametrize(
    ('name', 'old'),
    [
        ('retinanet_r18_fpn_1x_coco', 800),
        ('rtmdet_tiny_8xb32-300e_coco', 640),
        ('yolox_tiny_8xb8-300e_coco', 416),
        ('centernet_r18_8xb16-crop512-140e_coco', 512),
        ('resnet18_8xb32_in1k', 224),
        ('resnet50_8xb32-coslr-preciseBN_in1k', 224),
    ],
)
def test_the_size_of_a_config(name, old):
    cfg = read(name)
    assert image_size(cfg) == old
    set_image_size(cfg, 256)
    assert image_size(cfg) == 256


def test_all_sizes_go_by_one_factor():
    cfg = read('rtmdet_tiny_8xb32-300e_coco')
    set_image_size(cfg, 320)
    assert sizes(cfg) == [
        ('CachedMosaic', (320, 320)),
        ('RandomResize', (640, 640)),
        ('RandomCrop', (320, 320)),
        ('Pad', (320, 320)),
        ('CachedMixUp', (320, 320)),
    ]
    switched = cfg.custom_hooks[1].switch_pipeline
    assert [step.scale for step in switched if 'scale' in step] == [(320, 320)]


def test_the_longer_side_keeps_its_share():
    cfg = read('retinanet_r18_fpn_1x_coco')
    set_image_size(cfg, 400)
    assert sizes(cfg) == sizes(cfg, 'val') == [('Resize', (666, 400))]


def test_sizes_of_the_preprocessor_and_of_the_network():
    cfg = read('yolox_tiny_8xb8-300e_coco')
    set_image_size(cfg, 208)
    assert cfg.model.data_preprocessor.batch_augments[0].random_size_range == (160, 320)
    vit = read('vit-base-p16_64xb64_in1k')
    set_image_size(vit, 112)
    assert vit.model.backbone.img_size == 112


def test_a_share_is_no_size():
    cfg = read('resnet18_8xb32_in1k')
    cfg.train_dataloader.dataset.pipeline[1].crop_ratio_range = (0.08, 1.0)
    set_image_size(cfg, 112)
    assert cfg.train_dataloader.dataset.pipeline[1].crop_ratio_range == (0.08, 1.0)
    assert cfg.train_dataloader.dataset.pipeline[1].scale == 112


def test_the_same_size_changes_nothing():
    cfg = read('retinanet_r18_fpn_1x_coco')
    assert set_image_size(cfg, 800) == []


def test_networks_of_one_size():
    with pytest.raises(
        UsageError, match='the anchors of SingleStageDetector are made for images of 300'
    ):
        set_image_size(read('ssd300_coco'), 256)
    cfg = read('resnet18_8xb32_in1k')
    for loader in (cfg.test_dataloader, cfg.train_dataloader):
        loader.dataset.pipeline = [dict(type='LoadImageFromFile')]
    with pytest.raises(UsageError, match='have no size that could be changed'):
        set_image_size(cfg, 64)
