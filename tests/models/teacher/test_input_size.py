"""Teachers of a fixed image size, and students or pipelines of another."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS as CLASSIFIERS
from mmrazor.registry import MODELS
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError
from dpk_mm.models.teacher.input_size import expected_size, read_size


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmrazor')


ARCH = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16)
SWIN = dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2])
BACKBONES = {
    'vit': dict(type='VisionTransformer', arch=ARCH, img_size=32, patch_size=8),
    'swin': dict(type='SwinTransformer', arch=SWIN, img_size=32, window_size=2, out_indices=(1,)),
    'timm': dict(
        type='TIMMBackbone',
        model_name='vit_tiny_patch16_224',
        img_size=32,
        depth=1,
        embed_dim=8,
        num_heads=1,
    ),
    'resnet': dict(type='ResNet', depth=18, base_channels=8, stem_channels=8),
    'convnext': dict(type='ConvNeXt', arch=dict(depths=[1] * 4, channels=[4] * 4)),
}


def classifier(kind, classes=3, **kwargs):
    in_channels = {'vit': 16, 'swin': 16, 'resnet': 64}[kind]
    head = dict(type='VisionTransformerClsHead' if kind == 'vit' else 'LinearClsHead')
    return dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        backbone=dict(BACKBONES[kind], **kwargs),
        neck=None if kind == 'vit' else dict(type='GlobalAveragePooling'),
        head=dict(head, num_classes=classes, in_channels=in_channels),
        data_preprocessor=dict(num_classes=classes, mean=[0.0] * 3, std=[1.0] * 3),
    )


def algorithm(student, teacher, source='head.fc'):
    recorders = [
        dict(logits=dict(type='ModuleOutputs', source='head.layers.head' if vit else 'head.fc'))
        for vit in (side['head']['type'].startswith('Vision') for side in (student, teacher))
    ]
    return MODELS.build(
        dict(
            type='DPKDistill',
            architecture=student,
            teacher=teacher,
            distiller=dict(
                type='DPKDistiller',
                student_recorders=recorders[0],
                teacher_recorders=recorders[1],
                distill_losses=dict(loss_kd=dict(type='KLDivergence')),
                loss_forward_mappings=dict(
                    loss_kd=dict(
                        preds_S=dict(recorder='logits', from_student=True),
                        preds_T=dict(recorder='logits', from_student=False),
                    )
                ),
            ),
        )
    )


@pytest.mark.parametrize(
    ('kind', 'size'),
    [
        ('vit', (32, 32)),
        ('swin', (32, 32)),
        ('timm', (32, 32)),
        ('resnet', None),
        ('convnext', None),
    ],
)
def test_what_a_backbone_was_made_for(kind, size):
    cfg = dict(BACKBONES[kind], _scope_='mmpretrain')
    assert expected_size(CLASSIFIERS.build(cfg)) == size


def test_a_timm_network_for_any_size():
    cfg = dict(BACKBONES['timm'], _scope_='mmpretrain', dynamic_img_size=True)
    assert expected_size(CLASSIFIERS.build(cfg)) is None


def test_student_and_teacher_of_different_sizes_are_not_built():
    message = 'model.teacher expects images of 32x32, but the student 64x64: give both the same img'
    with pytest.raises(UsageError, match=message):
        algorithm(classifier('vit', img_size=64), classifier('vit'))
    algorithm(classifier('vit'), classifier('vit'))


def batch(side):
    from mmpretrain.structures import DataSample

    return torch.randn(2, 3, side, side), [DataSample().set_gt_label(i) for i in range(2)]


@pytest.mark.parametrize('teacher', ['vit', 'swin'])
def test_a_pipeline_of_another_size_is_told_before_the_first_step(teacher):
    model = algorithm(classifier('resnet'), classifier(teacher)).train()
    message = 'expects images of 32x32, but the pipeline gives images of 64x64: change.*train_pipe'
    with pytest.raises(UsageError, match=message):
        model(*batch(64), mode='loss')
    losses = model(*batch(32), mode='loss')
    assert all(torch.isfinite(v) for v in losses.values())


def test_a_convolutional_teacher_takes_any_size():
    model = algorithm(classifier('resnet'), classifier('resnet')).train()
    for side in (32, 64):
        assert 'distill.loss_kd' in model(*batch(side), mode='loss')


def test_class_counts_are_compared_when_the_model_is_built():
    with pytest.raises(UsageError, match=r'student \(head.fc\) has 3 .*\(head.layers.head\) has 7'):
        algorithm(classifier('resnet'), classifier('vit', classes=7))


def test_other_networks_say_nothing():
    assert expected_size(nn.Conv2d(3, 4, 1)) is None


def test_sizes_of_a_config():
    assert read_size(32, 'model.input_size') == (32, 32)
    assert read_size([32, 48], 'model.input_size') == (32, 48)


@pytest.mark.parametrize('size', ['224', (3, 224, 224), (224,), 0, -5, True, (224.0, 224), None])
def test_what_is_no_size(size):
    with pytest.raises(
        UsageError, match=r'model.input_size is .*, but \(height, width\) in pixels'
    ):
        read_size(size, 'model.input_size')
