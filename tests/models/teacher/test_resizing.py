"""A teacher at another resolution, with maps whose values say where they are from."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from mmrazor.registry import MODELS
from torch import nn

from dpk_mm.errors import UsageError
from dpk_mm.models.distillers import DPKDistiller
from dpk_mm.models.teacher.resizing import TeacherResizing
from tests.helpers.small_runs import build, classifier, distilled, yolox


class Pyramid(nn.Module):
    def forward(self, x):
        pool = nn.functional.avg_pool2d
        return pool(x, 4), pool(x, 8), x.flatten(1)[:, :5]


def test_images_and_maps():
    resizing = TeacherResizing((96, 64))
    images = torch.rand(2, 3, 48, 32)
    assert resizing.images(images).shape == (2, 3, 96, 64)
    model = nn.Sequential(Pyramid())
    distiller = DPKDistiller(records=dict(feats=dict(teacher='0')), distill_losses={})
    distiller.prepare_from_teacher(model)
    with distiller.teacher_recorders:
        model(resizing.images(images))
        resizing.maps(distiller.teacher_recorders, images.shape[-2:])
    first, second, logits = distiller.get_record('feats', False)
    assert (first.shape[2:], second.shape[2:], logits.shape) == ((12, 8), (6, 4), (2, 5))
    # a mean over cells stays a mean over cells
    expected = nn.functional.avg_pool2d(images, 8)
    assert (second - expected).abs().mean() < 0.05


def test_the_same_size_is_left_alone():
    resizing = TeacherResizing(64)
    images = torch.rand(1, 3, 64, 64)
    assert resizing.images(images) is images


@pytest.mark.parametrize('size', [(0, 3), (3,), ('a', 'b'), (1.5, 2), 0, True, '24'])
def test_sizes_that_are_none(size):
    with pytest.raises(UsageError, match='teacher_input_size'):
        TeacherResizing(size)


def test_it_is_said_once(logged):
    resizing = TeacherResizing((32, 32))
    for _ in range(2):
        resizing.images(torch.rand(1, 3, 16, 16))
    assert len([line for line in logged if 'are resized to 32x32' in line]) == 1


@pytest.mark.parametrize(('size', 'said'), [((96, 96), 1), (None, 0)])
def test_what_a_detector_hands_on_is_not_scaled_back_and_that_is_said(logged, size, said):
    cfg = distilled(yolox(8), yolox(8), teacher_input_size=size)
    path = 'mmdet.models.utils.multi_apply'
    cfg['distiller']['distill_deliveries'] = dict(
        targets=dict(type='FunctionOutputs', func_path=path, max_keep_data=1)
    )
    build(cfg)
    assert sum('the distill_deliveries targets hand on is that' in line for line in logged) == said


def vit(size):
    arch = dict(embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=64)
    return dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        backbone=dict(type='VisionTransformer', arch=arch, img_size=size, patch_size=16),
        head=dict(type='VisionTransformerClsHead', num_classes=5, in_channels=32),
    )


def test_a_transformer_teaches_a_student_of_smaller_images():
    from mmpretrain.structures import DataSample

    cfg = dict(
        type='DPKDistill',
        _scope_='mmrazor',
        architecture=classifier(8),
        teacher=vit(96),
        distiller=dict(
            type='DPKDistiller',
            records=dict(logits=dict(student='head.fc', teacher='head.layers.head')),
            distill_losses=dict(loss_kd=dict(type='KDLoss')),
        ),
    )
    model = build(dict(cfg, teacher_input_size=(96, 96)))
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    losses = model.loss(torch.rand(2, 3, 64, 64), samples)
    assert torch.isfinite(losses['distill.loss_kd'])
    with pytest.raises(UsageError, match='teacher_input_size=.96, 96. to have the images resized'):
        build(cfg).loss(torch.rand(2, 3, 64, 64), samples)
    with pytest.raises(Exception, match='model.teacher_input_size is 0, but'):  # not the default
        MODELS.build(ConfigDict(dict(cfg, teacher_input_size=0)))
    with pytest.raises(
        Exception, match='expects images of 96x96, but model.teacher_input_size 80x80'
    ):
        MODELS.build(ConfigDict(dict(cfg, teacher_input_size=80)))


class HalfOfTheImage(nn.Module):
    """Finds the upper left quarter of what it is shown, and scales it back as mmdet does."""

    def forward(self, inputs, data_samples, mode):
        assert mode == 'predict'
        self.seen = inputs
        height, width = inputs.shape[-2:]
        for sample in data_samples:
            assert sample.keys() == ['proposals']
            horizontal, vertical = sample.scale_factor
            box = [0.0, 0.0, width / 2 / horizontal, height / 2 / vertical]
            sample.pred_instances = InstanceData(bboxes=torch.tensor([box]))
        return data_samples


def test_predictions_are_in_the_coordinates_of_the_file():
    from mmdet.structures import DetDataSample

    # an image of 20x32 (width x height), enlarged to 40x64 and padded to 64x64
    meta = dict(scale_factor=(2.0, 2.0), img_shape=(64, 40), batch_input_shape=(64, 64))
    sample = DetDataSample(metainfo=meta)
    truth = InstanceData(bboxes=torch.tensor([[1.0, 2, 3, 4]]), unknown=torch.zeros(1))
    sample.gt_instances, sample.proposals = truth, InstanceData(bboxes=torch.ones(1, 4))
    teacher, images = HalfOfTheImage(), torch.rand(1, 3, 64, 64)
    resizing = TeacherResizing((96, 128))
    (found,) = resizing.predict(teacher, images, [sample])
    assert torch.equal(teacher.seen, resizing.images(images))
    # half of 64 pixels of the padded image
    assert found.pred_instances.bboxes.tolist() == [[0, 0, 16, 16]]
    assert found is sample and found.gt_instances.bboxes.tolist() == [[1, 2, 3, 4]]
    assert (found.scale_factor, found.img_shape) == ((2.0, 2.0), (64, 40))


def test_a_distillation_shows_the_teacher_resized_images():
    from mmpretrain.structures import DataSample

    student, teacher = classifier(), classifier(16)
    teacher['data_preprocessor'] = dict(teacher['data_preprocessor'], std=[51.0] * 3)
    model = build(distilled(student, teacher, teacher_input_size=(96, 32))).eval()
    images = torch.rand(2, 3, 64, 64)
    expected = TeacherResizing((96, 32)).images(5 * images)
    torch.testing.assert_close(model.input_of_teacher(images), expected)
    feature = torch.rand(2, 4, 6, 2)
    assert model.as_student_grid([feature], images.shape[-2:])[0].shape == (2, 4, 4, 4)

    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    batch = dict(inputs=pixels, data_samples=[DataSample().set_gt_label(i) for i in (3, 1)])
    with torch.no_grad():
        found = model.teacher_val_step(batch)
        seen = TeacherResizing((96, 32)).images(pixels.flip(1) / 51)
        scores = model.teacher(seen).softmax(1)
    torch.testing.assert_close(torch.stack([s.pred_score for s in found]), scores)
    assert [int(s.gt_label) for s in found] == [3, 1]

    same = build(distilled(classifier(), classifier(16))).eval()
    assert same.input_of_teacher(images) is images
    assert same.as_student_grid(feature, images.shape[-2:]) is feature
