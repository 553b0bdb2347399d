import pytest
from mmengine.config import Config

import dpk_mm  # noqa: F401
from dpk_mm.checkpoint.student_config import is_distillation, student_config
from dpk_mm.errors import UsageError


def distill_config(**model) -> Config:
    return Config(
        dict(
            default_scope='mmdet',
            model=dict(
                _scope_='mmrazor',
                type='DPKDistill',
                architecture=dict(
                    _scope_='mmdet',
                    type='FasterRCNN',
                    data_preprocessor=dict(type='DetDataPreprocessor', mean=[1.0]),
                ),
                teacher=dict(type='mmdet.FasterRCNN'),
                teacher_ckpt='nowhere.pth',
                **model,
            ),
            test_dataloader=dict(batch_size=2),
            val_cfg=dict(type='mmrazor.SingleTeacherDistillValLoop', fp16=True),
            test_cfg=dict(type='TestLoop'),
            custom_hooks=[
                dict(type='mmrazor.StudentCheckpointHook'),
                dict(type='mmrazor.StopDistillHook', stop_epoch=3),
                dict(type='EMAHook'),
                dict(type='NumClassCheckHook'),
            ],
            custom_imports=dict(imports=['dpk_mm', 'json'], allow_failed_imports=False),
        )
    )


def test_config_becomes_the_students():
    cfg = distill_config()
    student = student_config(cfg)

    assert student.model == dict(
        _scope_='mmdet',
        type='FasterRCNN',
        data_preprocessor=dict(type='DetDataPreprocessor', mean=[1.0]),
    )
    assert [hook.type for hook in student.custom_hooks] == ['EMAHook', 'NumClassCheckHook']
    assert student.val_cfg == dict(fp16=True)
    assert student.test_cfg == dict(type='TestLoop')
    assert student.test_dataloader == cfg.test_dataloader
    assert student.custom_imports.imports == ['json']
    assert 'nowhere.pth' not in student.pretty_text
    # the config that came in stays as it was
    assert is_distillation(cfg) and len(cfg.custom_hooks) == 4 and not is_distillation(student)


def test_own_import_goes_only_when_nothing_of_it_is_left():
    cfg = distill_config()
    cfg.custom_imports.imports = ['dpk_mm']
    assert 'custom_imports' not in student_config(cfg)

    cfg.model.architecture.backbone = dict(type='mmrazor.CIFARResNet')
    assert student_config(cfg).custom_imports.imports == ['dpk_mm']


@pytest.mark.parametrize('name', ['CIFARResNet', 'mmpretrain.MobileNetV1'])
def test_a_network_of_ours_needs_the_import(name):
    """They are registered with mmpretrain, as networks of it are."""
    cfg = distill_config()
    cfg.custom_imports.imports = ['dpk_mm']
    cfg.model.architecture.neck = [dict(type='Neck', backbone=dict(type=name))]
    assert student_config(cfg).custom_imports.imports == ['dpk_mm']
    cfg.model.architecture.neck = [dict(type='Neck', conv=dict(type='DCNv2'))]
    assert 'custom_imports' not in student_config(cfg)


@pytest.mark.parametrize('place', ['algorithm', 'top'])
def test_preprocessor_is_the_one_of_training(place):
    other = dict(type='DetDataPreprocessor', mean=[9.0])
    cfg = distill_config(**(dict(data_preprocessor=other) if place == 'algorithm' else {}))
    if place == 'top':
        cfg.data_preprocessor = other
    assert student_config(cfg).model.data_preprocessor == other


def test_plain_config_stays_as_it_is():
    cfg = Config(
        dict(
            model=dict(type='FasterRCNN'),
            custom_imports=dict(imports=['dpk_mm']),
            custom_hooks=[dict(type='mmrazor.StopDistillHook')],
        )
    )
    student = student_config(cfg)
    assert student.to_dict() == cfg.to_dict()
    student.model.type = 'RetinaNet'
    assert cfg.model.type == 'FasterRCNN'


def test_student_without_scope_takes_the_algorithms():
    cfg = distill_config()
    del cfg.model.architecture['_scope_']
    assert student_config(cfg).model._scope_ == 'mmrazor'


def test_cfg_path_of_a_package_is_resolved():
    cfg = distill_config()
    cfg.model.architecture = dict(
        cfg_path='mmdet::retinanet/retinanet_r18_fpn_1x_coco.py', pretrained=False
    )
    model = student_config(cfg).model
    assert (model._scope_, model.type, model.backbone.depth) == ('mmdet', 'RetinaNet', 18)
    assert 'pretrained' not in model


def test_config_without_model_is_refused():
    with pytest.raises(UsageError, match='has no model'):
        student_config(Config(dict(train_cfg=None)))
    cfg = distill_config()
    cfg.model.architecture = 'FasterRCNN'
    with pytest.raises(UsageError, match='architecture is a str'):
        student_config(cfg)
