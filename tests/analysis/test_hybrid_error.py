import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import nn

from dpk_mm.analysis.hybrid_error import _Measure, measure_hybrid_error
from dpk_mm.analysis.loading import build_model
from dpk_mm.errors import UsageError
from dpk_mm.functional import random_mask
from dpk_mm.models import DPKLoss

from ..helpers.small_runs import Noise, build, classifier, distilled

MINI = Path(__file__).parents[2] / 'configs' / 'mini'


class Halves(nn.Module):
    """A module that is known: the student's tokens as they are, the teacher's times 1/2."""

    uses_mask = True
    patch_size = 1

    def __init__(self):
        super().__init__()
        self.given = []

    def forward(self, student, teacher, ratio):
        mask = random_mask(len(teacher), teacher[0, 0].numel(), ratio, teacher.device)
        cells = mask.as_bool().view(len(teacher), 1, *teacher.shape[2:])
        self.given.append(cells.float().mean().item())
        return torch.where(cells, teacher / 2, student)


def measure(student_channels=4, teacher_channels=4, ratios=(0.0, 0.5, 1.0), **more):
    size = dict(index=0, embed_dims=8, encoder_depth=1, decoder_depth=1, num_heads=2)
    size.update(student_channels=student_channels, teacher_channels=teacher_channels, **more)
    return _Measure(DPKLoss(transforms={'P4': size}), ratios)


def feats(student_channels=4, n=3):
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(n, 4, 6, 5, generator=generator) + torch.arange(4.0).view(4, 1, 1)
    student = torch.randn(n, student_channels, 6, 5, generator=generator)
    return student, teacher


def test_errors_of_a_known_module_over_two_batches():
    measured = measure()
    measured.loss.transforms['P4'] = module = Halves()
    student, teacher = feats(n=5)
    for part in (slice(0, 2), slice(2, 5)):
        measured.unclamped_ratios({'P4': (student[part], teacher[part])})
    (row,) = measured.rows('loss_feat')
    assert (row.loss, row.stage) == ('loss_feat', 'P4')
    assert module.given == [0, 0.5, 1] * 2
    # of all images at once: the mean of a channel is that of both batches
    variance = (teacher - teacher.mean((0, 2, 3), keepdim=True)).square().sum().item()
    own = (student - teacher).square().sum().item() / variance
    assert row.student == row.by_ratio[0.0] == pytest.approx(own, rel=1e-5)
    rebuilt = (teacher / 2).square().sum().item() / variance
    assert row.by_ratio[1.0] == pytest.approx(rebuilt, rel=1e-5)
    low, high = sorted((own, rebuilt))
    assert low < row.by_ratio[0.5] < high


def test_the_mean_of_each_channel_has_error_1():
    measured = measure(ratios=(1.0,))
    _, teacher = feats()
    mean = teacher.mean((0, 2, 3), keepdim=True).expand_as(teacher)
    measured.unclamped_ratios({'P4': (mean, teacher)})
    assert measured.rows('x')[0].student == pytest.approx(1.0, rel=1e-5)


def test_features_of_another_shape_have_no_error_of_their_own():
    measured = measure(student_channels=6)
    measured.unclamped_ratios({'P4': feats(6)})
    (row,) = measured.rows('x')
    assert row.student is None
    assert list(row.by_ratio) == [0.0, 0.5, 1.0]


def test_a_module_that_masks_nothing_has_one_ratio():
    measured = measure(prior='none')
    measured.unclamped_ratios({'P4': feats()})
    assert list(measured.rows('x')[0].by_ratio) == [0.0]


def test_the_loss_goes_on_with_a_ratio_in_range():
    measured = measure()
    student, teacher = feats()
    assert measured({'P4': (student, teacher)}) == {'P4': 0.5}


def test_at_ratio_1_the_student_is_not_looked_at():
    measured = measure(ratios=(1.0,), patch_size=2)
    student, teacher = feats()
    measured.unclamped_ratios({'P4': (student, teacher)})
    other = _Measure(measured.loss, (1.0,))
    other.unclamped_ratios({'P4': (student * 100, teacher)})
    one, two = measured.rows('x')[0], other.rows('x')[0]
    assert one.by_ratio[1.0] == pytest.approx(two.by_ratio[1.0])
    assert one.student != two.student


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(part='test'), "the part must be one of train, val, but is 'test'"),
        (dict(batches=0), r'at least one batch and ratios in \[0, 1\] are needed, but found 0'),
        (dict(ratios=[1.5]), r'found 16 and \[1.5\]'),
        (dict(ratios=[]), r'found 16 and \[\]'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(UsageError, match=message):
        measure_hybrid_error(MINI / 'faster_rcnn_dpk.py', 'x.pth', **arguments)


def test_a_config_without_dpk_is_refused():
    with pytest.raises(UsageError, match='has no DPKLoss'):
        measure_hybrid_error(MINI / 'faster_rcnn_fgd.py', 'x.pth')


class Augmented(Noise):
    """Images that are darkened by Python's, numpy's and torch's random numbers."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        for share in (random.random(), np.random.rand(), torch.rand(()).item()):
            item['inputs'] = (item['inputs'] * share).to(torch.uint8)
        return item


def training(folder):
    """A config with 8 images in batches of 4, and a checkpoint of it."""
    cfg = Config(
        dict(
            model=dict(distilled(classifier(), classifier())),
            default_scope='mmpretrain',
            train_dataloader=dict(
                dataset=dict(type=Augmented, size=8, boxes=False),
                batch_size=4,
                num_workers=0,
                collate_fn=dict(type='default_collate'),
                sampler=dict(type='DefaultSampler', shuffle=True),
            ),
        )
    )
    torch.save({'state_dict': build(classifier()).state_dict()}, folder / 'teacher.pth')
    torch.save({'state_dict': build_model(cfg).state_dict()}, folder / 'whole.pth')
    cfg.model.teacher_ckpt = str(folder / 'teacher.pth')
    return cfg, folder / 'whole.pth'


def test_two_calls_give_the_same_numbers_and_leave_those_of_the_caller(tmp_path):
    cfg, checkpoint = training(tmp_path)
    found = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = random.getstate(), np.random.get_state()[1].tolist()
        found.append(measure_hybrid_error(cfg, checkpoint, part='train'))
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert found[0] == found[1]
    assert len(found[0]) == 1 and len(set(found[0][0].by_ratio.values())) > 1


class Listed(Noise):
    """Says which images were read."""

    read = []

    def __getitem__(self, index):
        self.read.append(index)
        return super().__getitem__(index)


def test_the_images_are_in_the_shuffled_order_of_a_fixed_seed(tmp_path):
    cfg, checkpoint = training(tmp_path)
    cfg.train_dataloader.dataset.type = Listed
    cfg.train_dataloader.batch_size = 3
    cfg.train_dataloader.num_workers = 2  # a process of its own would not list them here
    orders = []
    for _ in range(2):
        Listed.read.clear()
        measure_hybrid_error(cfg, checkpoint, part='train')
        orders.append(list(Listed.read))
    assert orders[0] == orders[1] != sorted(orders[0])
    assert len(set(orders[0])) == len(orders[0]) == 6  # full batches alone


def test_images_that_are_not_there(tmp_path):
    cfg, checkpoint = training(tmp_path)
    with pytest.raises(UsageError, match='the config has no val_dataloader: choose another part'):
        measure_hybrid_error(cfg, checkpoint)
    cfg.train_dataloader.batch_size = 9
    with pytest.raises(UsageError, match='train part has fewer images than a batch of 9: set trai'):
        measure_hybrid_error(cfg, checkpoint, part='train')
