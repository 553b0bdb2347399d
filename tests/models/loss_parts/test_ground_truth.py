from types import SimpleNamespace

import pytest
import torch

from dpk_mm.models.loss_parts.ground_truth import boxes_of

FEATURE = torch.zeros(2, 3, 4, 4)


def _sample(boxes=None, **metainfo):
    instances = SimpleNamespace() if boxes is None else SimpleNamespace(bboxes=boxes)
    return SimpleNamespace(metainfo=metainfo, gt_instances=instances)


def test_boxes_and_the_size_of_the_padded_batch():
    first, second = torch.rand(3, 4), torch.zeros(0, 4)
    samples = [
        _sample(first, batch_input_shape=(32, 64), img_shape=(30, 60)),
        _sample(SimpleNamespace(tensor=second)),  # mmdet's HorizontalBoxes
    ]
    boxes, shape = boxes_of(samples, FEATURE, 'X')
    assert torch.equal(boxes[0], first) and torch.equal(boxes[1], second)
    assert shape == (32, 64)


@pytest.mark.parametrize(
    ('samples', 'message'),
    [
        (None, 'X needs data_samples for the boxes, but found None; map them'),
        ([_sample()], 'X needs one data sample per image, but found 1 for 2 images'),
        ([_sample(img_shape=(1, 1))] * 2, r"X needs 'batch_input_shape' .* found \['img_shape'\]"),
        ([_sample(batch_input_shape=(1, 1))] * 2, "X needs 'gt_instances.bboxes' .* sample 0 has"),
    ],
)
def test_samples_that_do_not_fit(samples, message):
    with pytest.raises(ValueError, match=message):
        boxes_of(samples, FEATURE, 'X')
