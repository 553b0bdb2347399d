import json

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from dpk_mm.cli.distill.classes import set_classes
from dpk_mm.cli.distill.datasets import innermost, needs_masks, set_datasets
from dpk_mm.cli.distill.own_data import read_data
from dpk_mm.errors import UsageError
from dpk_mm.models.pairing.zoo import find_config
from tests.helpers.data_sets import coco_content, write_class_folders, write_coco


def applied(name, data, folder):
    cfg = Config.fromfile(find_config(name, '--student').file)
    set_classes(cfg, data)
    set_datasets(cfg, data, folder)
    return cfg


def test_a_detector_reads_the_boxes_of_the_user(tmp_path):
    from mmdet.registry import DATASETS

    data = read_data([str(write_coco(tmp_path))])
    cfg = applied('retinanet_r18_fpn_1x_coco', data, tmp_path)
    dataset = cfg.train_dataloader.dataset
    assert dataset.filter_cfg == dict(filter_empty_gt=True, min_size=1)
    assert [step.type for step in dataset.pipeline][:2] == ['LoadImageFromFile', 'LoadAnnotations']
    assert cfg.val_evaluator.ann_file == str(tmp_path / 'annotations' / 'val.json')
    assert cfg.test_dataloader.dataset == cfg.val_dataloader.dataset
    built = DATASETS.build(dict(dataset, pipeline=[], type='mmdet.CocoDataset'))
    assert len(built) == 4
    assert built.metainfo['classes'] == ('cat', 'dog')
    assert [built.get_data_info(i)['instances'][0]['bbox_label'] for i in range(2)] == [0, 1]


def test_labels_of_a_file_of_another_order_are_those_of_training(tmp_path):
    from mmdet.registry import DATASETS

    val = coco_content(2, start=100)
    val['categories'].reverse()
    data = read_data([str(write_coco(tmp_path, val=val))])
    cfg = applied('retinanet_r18_fpn_1x_coco', data, tmp_path / 'copies')
    dataset = cfg.val_dataloader.dataset
    assert (
        json.loads((tmp_path / 'copies' / 'val.json').read_text())['categories'][0]['name'] == 'cat'
    )
    built = DATASETS.build(dict(dataset, pipeline=[], type='mmdet.CocoDataset'))
    info = built.get_data_info(0)
    assert info['instances'][0]['bbox_label'] == 0  # a cat, as in training
    assert info['img_path'].endswith('images/100.png')


def test_wrapped_and_joined_data_sets(tmp_path):
    data = read_data([str(write_coco(tmp_path))])
    mixed = applied('yolox_tiny_8xb8-300e_coco', data, tmp_path).train_dataloader.dataset
    assert mixed.type == 'MultiImageMixDataset'
    assert mixed.dataset.data_root == f'{tmp_path}/'
    assert innermost(mixed) == [mixed.dataset]
    voc = applied('faster-rcnn_r50_fpn_1x_voc0712', data, tmp_path)
    assert [d.type for d in innermost(voc.train_dataloader.dataset)] == ['CocoDataset']
    assert voc.val_evaluator.type == 'CocoMetric'


def test_masks_that_are_not_there(tmp_path):
    data = read_data([str(write_coco(tmp_path))])
    with pytest.raises(UsageError, match='learns masks, but not all boxes of --data have a segm'):
        applied('mask-rcnn_r50_fpn_1x_coco', data, tmp_path)
    content = coco_content()
    for box in content['annotations']:
        box['segmentation'] = [[8, 8, 40, 8, 40, 32]]
    other = coco_content(2, start=100)
    for box in other['annotations']:
        box['segmentation'] = [[8, 8, 40, 8, 40, 32]]
    data = read_data([str(write_coco(tmp_path / 'masks', content, other))])
    cfg = applied('mask-rcnn_r50_fpn_1x_coco', data, tmp_path)
    assert needs_masks(cfg) and cfg.val_evaluator.metric == ['bbox', 'segm']


def test_a_classifier_reads_the_folders_of_the_user(tmp_path):
    from mmpretrain.registry import DATASETS

    data = read_data([str(write_class_folders(tmp_path))])
    cfg = applied('resnet18_8xb32_in1k', data, tmp_path)
    built = DATASETS.build(
        dict(cfg.train_dataloader.dataset, pipeline=[], type='mmpretrain.CustomDataset')
    )
    assert (len(built), list(built.CLASSES)) == (6, ['ant', 'bee', 'cow'])
    assert cfg.val_evaluator.topk == (1,)


def test_arrays_become_files(tmp_path):
    data = read_data([str(write_class_folders(tmp_path))])
    cfg = applied('resnet18_8xb16_cifar10', data, tmp_path)
    steps = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    assert steps[:2] == ['LoadImageFromFile', 'Resize'] and steps[-1] == 'PackInputs'


def test_files_in_place_of_rgb_arrays_are_turned_into_rgb(tmp_path):
    from mmpretrain.registry import MODELS, TRANSFORMS

    folder = write_class_folders(tmp_path)
    data = read_data([str(folder)])
    cfg = Config.fromfile(find_config('resnet18_8xb16_cifar10', '--student').file)
    rows = set_datasets(cfg, data, tmp_path)
    assert [(row.what, row.value) for row in rows] == [('data_preprocessor.to_rgb', 'True')]
    file = folder / 'train' / 'ant' / '0.png'
    Image.new('RGB', (32, 32), (255, 0, 0)).save(file)
    step = TRANSFORMS.build(cfg.train_dataloader.dataset.pipeline[0])
    image = torch.from_numpy(step(dict(img_path=str(file)))['img']).permute(2, 0, 1)
    settings = dict(cfg.data_preprocessor, type='mmpretrain.ClsDataPreprocessor')
    seen = MODELS.build(settings)(dict(inputs=[image]))['inputs'][0]
    red = (255 - cfg.data_preprocessor.mean[0]) / cfg.data_preprocessor.std[0]
    assert seen[0].mean().item() == pytest.approx(red, abs=1e-3)
    cfg = Config.fromfile(find_config('resnet18_8xb32_in1k', '--student').file)
    assert set_datasets(cfg, data, tmp_path) == []


def test_a_copy_does_not_replace_the_users_own_file(tmp_path):
    content = coco_content()
    del content['annotations'][0]['area']
    folder = write_coco(tmp_path, content)
    data = read_data([str(folder)])
    before = (folder / 'annotations' / 'train.json').read_text()
    with pytest.raises(UsageError, match='copy of train would replace .*: name another folder'):
        applied('retinanet_r18_fpn_1x_coco', data, folder / 'annotations')
    assert (folder / 'annotations' / 'train.json').read_text() == before


def test_a_config_without_data(tmp_path):
    data = read_data([str(write_coco(tmp_path))])
    with pytest.raises(UsageError, match='has no train_dataloader'):
        set_datasets(Config(dict(model=dict())), data, tmp_path)
