from pathlib import Path

import pytest
from mmengine.config import Config
from torch import nn

from dpk_mm.analysis.input_size import image_mode, input_size, reads_files
from dpk_mm.errors import UsageError

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.mark.parametrize(
    ('name', 'size', 'files'),
    [
        ('dpk/cifar100/resnet56_resnet20.py', (32, 32), False),
        ('dpk/imagenet/resnet34_resnet18.py', (224, 224), True),
        ('mini/fashion_cnn_dpk.py', (28, 28), False),
        ('mini/retinanet_dpk.py', (128, 128), True),
        ('dpk/faster_rcnn_r152_r50.py', (800, 1333), True),
    ],
)
def test_shipped_configs(name, size, files):
    cfg = Config.fromfile(CONFIGS / name)
    assert input_size(cfg) == size
    assert reads_files(cfg) is files


def config(test, train=(), dataset='CustomDataset'):
    return Config(
        dict(
            test_dataloader=dict(dataset=dict(type=dataset, pipeline=list(test))),
            train_dataloader=dict(
                dataset=dict(type='RepeatDataset', dataset=dict(type=dataset, pipeline=list(train)))
            ),
        )
    )


def test_last_transform_of_the_test_pipeline_counts():
    crop = dict(type='RandomCrop', crop_size=20)
    resize = dict(type='mmpretrain.Resize', scale=(48, 32))
    assert input_size(config([resize, dict(type='CenterCrop', crop_size=24)], [crop])) == (24, 24)
    assert input_size(config([resize, dict(type='PackInputs')], [crop])) == (32, 48)
    assert input_size(config([dict(type='PackInputs')], [crop])) == (20, 20)


def test_unknown_size_names_the_option():
    with pytest.raises(UsageError, match='--shape HEIGHT WIDTH'):
        input_size(config([dict(type='PackInputs')]))
    assert input_size(config([dict(type='PackInputs')], dataset='CIFAR100')) == (32, 32)


def test_how_a_network_gets_its_images():
    files, arrays = config([dict(type='LoadImageFromFile')]), config([])
    colour, grey = (nn.Sequential(nn.Conv2d(c, 4, 1), nn.Conv2d(4, 1, 1)) for c in (3, 1))
    assert (image_mode(colour, files), image_mode(colour, arrays)) == ('BGR', 'RGB')
    assert image_mode(grey, files) == image_mode(grey, arrays) == 'L'
