"""The anchors by name are those of the heads of our configs."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import TASK_UTILS
from mmengine.config import Config

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError
from dpk_mm.models.loss_parts.anchors import ANCHORS, build_anchors, level_anchors
from dpk_mm.models.loss_parts.level import Level

BASES = Path(__file__).parents[3] / 'configs' / '_base_' / 'pairs'
FILES = {
    'coco/faster_rcnn': 'coco_faster_rcnn_r101_r50.py',
    'coco/retinanet': 'coco_retinanet_r101_r50.py',
    'mini/faster_rcnn': 'mini_faster_rcnn.py',
    'mini/retinanet': 'mini_retinanet.py',
}
WHERE = torch.device('cpu')


@pytest.mark.parametrize('name', ANCHORS)
def test_they_are_those_of_the_students_head(name):
    student = Config.fromfile(BASES / FILES[name]).model.architecture
    head = student.get('rpn_head') or student.bbox_head
    theirs = TASK_UTILS.build(dict(head.anchor_generator, _scope_='mmdet'))
    own = build_anchors(name, 'Loss')
    assert own.strides == theirs.strides
    for one, other in zip(own.base_anchors, theirs.base_anchors, strict=True):
        assert torch.equal(one, other)


def test_anchors_lie_in_the_cells():
    generator = build_anchors(dict(scales=[1], ratios=[1.0], strides=[8, 16]), 'Loss')
    # of the student's head: what the teacher's pyramid begins with does not matter
    levels = [Level(1, 2, 1.0, 6, 6)]
    (found,) = level_anchors(generator, levels, [(4, 6)], (64, 96), WHERE, 'Loss')
    assert found.shape == (4, 6, 1, 4)
    assert found[2, 5, 0].tolist() == [5 * 16 - 8, 2 * 16 - 8, 5 * 16 + 8, 2 * 16 + 8]


@pytest.mark.parametrize(('student', 'size'), [(0, (4, 6)), (1, (8, 12)), (7, (4, 6))])
def test_strides_that_are_not_those_of_the_features(student, size):
    generator = build_anchors(dict(scales=[1], ratios=[1.0], strides=[8, 16]), 'Loss')
    with pytest.raises(UsageError, match=r'Loss has anchors with the strides \[8, 16\], but'):
        level_anchors(generator, [Level(student, 0, 1.0, 6, 6)], [size], (64, 96), WHERE, 'Loss')


def test_an_unknown_name():
    with pytest.raises(UsageError, match="anchors of Loss is 'coco/fasterrcnn'.*coco/faster_rcnn"):
        build_anchors('coco/fasterrcnn', 'Loss')
