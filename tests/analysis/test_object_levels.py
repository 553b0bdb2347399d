"""The level of each box, against the definitions written out."""

import json
import math

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.hub import get_config

from dpk_mm.analysis.object_levels import object_levels
from dpk_mm.errors import UsageError
from tests.helpers.data_sets import coco_content, write_coco

# (width, height) in a picture of 64 x 48, which the pipeline enlarges four times
SIZES = [(4, 4), (6, 12), (16, 8), (12, 12), (32, 24), (60, 40)]


@pytest.fixture
def data(tmp_path):
    content = coco_content(len(SIZES))
    for annotation, (width, height) in zip(content['annotations'], SIZES, strict=True):
        annotation.update(bbox=[1, 2, width, height], area=width * height)
    return write_coco(tmp_path / 'data', content)


def config(data, model):
    file = data.parent / 'own.py'
    file.touch()
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', scale=(256, 192), keep_ratio=True),
        dict(type='PackDetInputs'),
    ]
    return Config(
        dict(
            default_scope='mmdet',
            model=model,
            train_dataloader=dict(
                dataset=dict(
                    type='CocoDataset',
                    data_root=str(data),
                    ann_file='annotations/train.json',
                    data_prefix=dict(img='images/'),
                    metainfo=dict(classes=('cat', 'dog')),
                    pipeline=pipeline,
                )
            ),
        ),
        filename=str(file),
    )


def shares(levels, strides):
    return {s: sum(level == i for level in levels) / len(levels) for i, s in enumerate(strides)}


def best_anchor(width, height, anchors):
    """Index of the level with the anchor of largest IoU, both centred at the origin."""

    def overlap(anchor):
        w, h = anchor
        both = min(w, width) * min(h, height)
        return both / (w * h + width * height - both)

    values = [max(overlap(anchor) for anchor in level) for level in anchors]
    return int(np.argmax(values))


def test_a_two_stage_detector(data):
    mini = Config.fromfile('configs/mini/faster_rcnn_dpk.py')
    cfg = config(data, mini.model)
    found = object_levels(cfg)
    assert (found.images, found.boxes) == (len(SIZES), len(SIZES))
    strides = (4, 8, 16, 32, 64)
    generator = mini.model.architecture.rpn_head.anchor_generator
    scale = generator.scales[0]
    # an anchor of ratio r is sqrt(r) times as high, and 1 / sqrt(r) times as wide
    anchors = [
        [(s * scale / math.sqrt(r), s * scale * math.sqrt(r)) for r in generator.ratios]
        for s in strides
    ]
    boxes = [(4 * w, 4 * h) for w, h in SIZES]
    expected = [best_anchor(w, h, anchors) for w, h in boxes]
    assert found.shares['anchors'] == pytest.approx(shares(expected, strides))
    assert len(set(expected)) > 2
    # Eq. 1 of the FPN paper, with mmdet's unit: level 0 below twice finest_scale, one more for each doubling
    finest = mini.model.architecture.roi_head.bbox_roi_extractor.get('finest_scale', 56)
    expected = [min(max(math.floor(math.log2(math.sqrt(w * h) / finest)), 0), 3) for w, h in boxes]
    assert found.shares['second stage'] == pytest.approx(shares(expected, strides[:4]))
    assert len(set(expected)) > 1
    stages = mini.model.distiller.distill_losses.loss_dpk.transforms
    assert found.dpk == {name: strides[stage['index']] for name, stage in stages.items()}


def test_a_dropped_stage_or_loss_is_left_out(data):
    mini = Config.fromfile('configs/mini/faster_rcnn_dpk.py')
    losses = mini.model.distiller.distill_losses
    losses.loss_dpk.transforms.P5 = None
    losses.loss_none = None
    found = object_levels(config(data, mini.model), images=1)
    assert found.dpk['P4'] == 16 and 'P5' not in found.dpk
    assert len(found.dpk) == len(losses.loss_dpk.transforms) - 1


def test_a_head_with_ranges(data):
    model = get_config('mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py').model
    found = object_levels(config(data, model), images=3)
    assert (found.images, set(found.shares), found.dpk) == (3, {'points'}, {})
    # the half of the longer side: 64, 128, 256, 512 are the ends of the ranges
    chosen = [
        SIZES[i] for i in (0, 2, 5)
    ]  # evenly spread: 0, 2.5 and 5, and 2.5 is rounded to even
    ends = (64, 128, 256, 512, math.inf)
    expected = [next(i for i, end in enumerate(ends) if 2 * max(wh) <= end) for wh in chosen]
    assert found.shares['points'] == pytest.approx(shares(expected, (8, 16, 32, 64, 128)))


def test_errors(data, tmp_path):
    mini = Config.fromfile('configs/mini/faster_rcnn_dpk.py')
    with pytest.raises(UsageError, match='images must be at least 1, got 0'):
        object_levels(config(data, mini.model), images=0)
    content = json.loads((data / 'annotations/train.json').read_text())
    content['annotations'] = []
    empty = write_coco(tmp_path / 'empty', content)
    cfg = config(empty, mini.model)
    cfg.train_dataloader.dataset.filter_cfg = dict(filter_empty_gt=False)
    with pytest.raises(UsageError, match=r'own.py: 6 training images have no box'):
        object_levels(cfg)
    detr = get_config('mmdet::detr/detr_r50_8xb2-150e_coco.py').model
    with pytest.raises(UsageError, match='own.py: DETR has no anchors'):
        object_levels(config(data, detr))
    # a classifier is refused before its data are looked for
    with pytest.raises(UsageError, match='ImageClassifier has no anchors'):
        object_levels('configs/mini/fashion_cnn_dpk.py')
