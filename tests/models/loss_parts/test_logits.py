"""Labels of data samples, logits without the target, and standardised logits."""

import pytest
import torch
from mmpretrain.structures import DataSample

from dpk_mm.errors import UsageError
from dpk_mm.models.loss_parts.logits import labels_of, standardized, without_target

LOGITS = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


def test_labels():
    samples = [DataSample().set_gt_label(2), DataSample().set_gt_label(0)]
    assert labels_of(samples, LOGITS, 'XLoss').tolist() == [2, 0]
    for sample, label in zip(samples, (2, 0), strict=True):
        sample.set_gt_score(torch.eye(3)[label])  # of a preprocessor with to_onehot=True
    assert labels_of(samples, LOGITS, 'XLoss').tolist() == [2, 0]


def test_mixed_images_have_no_class():
    samples = [DataSample().set_gt_label(2), DataSample().set_gt_label(0)]
    samples[0].set_gt_score(torch.tensor([0.4, 0.0, 0.6]))
    samples[1].set_gt_score(torch.tensor([0.6, 0.0, 0.4]))
    with pytest.raises(UsageError, match='XLoss needs one class for each image, .*Mixup'):
        labels_of(samples, LOGITS, 'XLoss')


@pytest.mark.parametrize(
    ('samples', 'message'),
    [
        (None, 'found None for 2 images'),
        ([DataSample().set_gt_label(1)], 'found 1 for 2 images'),
        ([DataSample().set_gt_label(1), DataSample()], 'but sample 1 has none'),
        ([DataSample().set_gt_label([1, 2])] * 2, 'but sample 0 has 2 labels'),
    ],
)
def test_samples_without_one_label_each(samples, message):
    with pytest.raises(UsageError, match=message):
        labels_of(samples, LOGITS, 'XLoss')


def test_the_other_classes():
    found = without_target(LOGITS, torch.tensor([0, 1]))
    assert found.tolist() == [[2.0, 3.0], [4.0, 6.0]]
    assert without_target(LOGITS, torch.tensor([2, 2])).tolist() == [[1.0, 2.0], [4.0, 5.0]]


def test_standardised_logits():
    assert standardized(LOGITS, False) is LOGITS
    by_paper = standardized(LOGITS, 'paper')
    torch.testing.assert_close(by_paper[0], torch.tensor([-1.0, 0.0, 1.0]) / (2 / 3) ** 0.5)
    for standardize in (True, 'code'):
        found = standardized(LOGITS, standardize)
        torch.testing.assert_close(found[1], torch.tensor([-1.0, 0.0, 1.0]))
    assert standardized(torch.ones(2, 3), True).tolist() == [[0.0] * 3] * 2
