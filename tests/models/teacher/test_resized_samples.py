"""The ground truth of images that are resized for the teacher, against boxes and masks that are scaled by hand."""

import copy

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData, PixelData
from mmpretrain.structures import DataSample

from dpk_mm.errors import UsageError
from dpk_mm.models.teacher.resized_samples import resized_samples
from tests.helpers.small_runs import build, distilled, yolox

IMAGE, SIZE = (64, 128), (128, 192)  # twice as high, half as wide again
BOXES = [[8.0, 4.0, 40.0, 36.0], [50.0, 10.0, 90.0, 60.0]]
SCALED = [[12.0, 8.0, 60.0, 72.0], [75.0, 20.0, 135.0, 120.0]]


def sample(boxes=BOXES, shape=IMAGE, **instances):
    found = DetDataSample(
        metainfo=dict(
            img_shape=shape,
            pad_shape=shape,
            batch_input_shape=shape,
            ori_shape=(32, 32),
            scale_factor=(3.0, 2.0),
        )
    )
    found.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes), labels=torch.tensor([1, 3]), **instances
    )
    found.ignored_instances = InstanceData(bboxes=torch.tensor(boxes[:1]))
    return found


@pytest.mark.parametrize('boxes', [torch.tensor(BOXES), HorizontalBoxes(torch.tensor(BOXES))])
def test_boxes_and_metainfo_of_a_copy(boxes):
    own = sample()
    own.gt_instances.bboxes = boxes
    own.set_metainfo(dict(img_shape=(60, 90)))  # the rest is padding
    (found,) = resized_samples([own], IMAGE, SIZE)
    given = found.gt_instances.bboxes
    assert type(given) is type(boxes)
    assert getattr(given, 'tensor', given).tolist() == SCALED
    assert found.ignored_instances.bboxes.tolist() == SCALED[:1]
    assert found.gt_instances.labels.tolist() == [1, 3]
    assert found.metainfo == dict(
        img_shape=(120, 135),
        pad_shape=SIZE,
        batch_input_shape=SIZE,
        ori_shape=(32, 32),
        scale_factor=(4.5, 4.0),
    )
    # the student's own
    assert getattr(boxes, 'tensor', boxes).tolist() == BOXES
    assert own.ignored_instances.bboxes.tolist() == BOXES[:1]
    assert own.img_shape == (60, 90) and own.scale_factor == (3.0, 2.0)


def test_masks_are_of_the_padded_image():
    mask = np.zeros((2, 60, 90), np.uint8)
    mask[0, 4:36, 8:40] = 1
    (found,) = resized_samples([sample(masks=BitmapMasks(mask, 60, 90))], IMAGE, SIZE)
    expected = np.zeros((2, *SIZE), np.uint8)
    expected[0, 8:72, 12:60] = 1
    np.testing.assert_array_equal(found.gt_instances.masks.masks, expected)

    points = [[np.array([8.0, 4, 40, 4, 40, 36])], [np.array([50.0, 10, 90, 10, 90, 60])]]
    own = sample(masks=PolygonMasks(points, 60, 90))
    (found,) = resized_samples([own], IMAGE, SIZE)
    assert found.gt_instances.masks.masks[0][0].tolist() == [12, 8, 60, 8, 60, 72]
    assert (found.gt_instances.masks.height, found.gt_instances.masks.width) == SIZE
    assert own.gt_instances.masks.masks[0][0].tolist() == [8, 4, 40, 4, 40, 36]


def test_what_has_no_size_stays():
    labelled = DataSample(metainfo=dict(img_shape=IMAGE)).set_gt_label(3)
    (found,) = resized_samples([labelled], IMAGE, SIZE)
    assert found.gt_label.tolist() == [3] and found.img_shape == SIZE
    own = [sample()]
    assert resized_samples(own, IMAGE, IMAGE) is own
    assert resized_samples(None, IMAGE, SIZE) is None


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        (lambda s: setattr(s, 'gt_sem_seg', PixelData(sem_seg=torch.zeros(1, *IMAGE))), 'sem_seg'),
        (lambda s: setattr(s.gt_instances, 'bboxes', torch.zeros(2, 5)), r'Tensor \(2, 5\)'),
        (lambda s: setattr(s.gt_instances, 'keypoints', torch.zeros(2, 7)), 'keypoints'),
    ],
)
def test_what_cannot_be_resized_is_refused(change, named):
    own = sample()
    change(own)
    with pytest.raises(UsageError, match=f'teacher_input_size.*{named}'):
        resized_samples([own], IMAGE, SIZE)


@pytest.mark.parametrize('depth', ['loss', 'features'])
def test_the_loss_of_the_teacher_is_that_of_scaled_boxes(depth):
    """A teacher that sees 128x192 has the loss that it has alone, with images and boxes of that size."""
    torch.manual_seed(0)
    cfg = distilled(yolox(8), yolox(8), teacher_input_size=SIZE, teacher_forward=depth)
    model = build(cfg).train()
    images = torch.rand(1, 3, *IMAGE) * 255
    own = [sample()]
    before = copy.deepcopy(own)
    given = []
    model.teacher.register_forward_hook(lambda module, inputs, output: given.append(output))
    student = copy.deepcopy(model.student)
    losses = model(images, own, mode='loss')
    if depth == 'features':
        assert not given  # the head is not run, and needs no samples
    else:
        resized = torch.nn.functional.interpolate(
            images, size=SIZE, mode='bilinear', align_corners=False, antialias=True
        )
        with torch.no_grad():
            expected = model.teacher(resized, [sample(SCALED, SIZE)], mode='loss')
            wrong = model.teacher(resized, before, mode='loss')
        assert set(given[0]) == set(expected)
        for name, value in expected.items():
            torch.testing.assert_close(given[0][name], value)
        assert any(not torch.isclose(expected[name], wrong[name]) for name in expected)
    # the student learns from its own boxes
    assert own[0].gt_instances.bboxes.tolist() == BOXES
    for name, value in student(images, before, mode='loss').items():
        torch.testing.assert_close(losses[f'student.{name}'], value)


def test_semantic_maps_are_refused_where_the_head_is_run_alone():
    images = torch.rand(1, 3, *IMAGE)
    own = [sample()]
    own[0].gt_sem_seg = PixelData(sem_seg=torch.zeros(1, *IMAGE))
    cfg = distilled(yolox(8), yolox(8), teacher_input_size=SIZE)
    assert 'distill.loss_kd.foreground' in build(cfg).train()(images, own, mode='loss')
    with pytest.raises(UsageError, match='gt_sem_seg'):
        build(dict(cfg, teacher_forward='loss')).train()(images, own, mode='loss')
