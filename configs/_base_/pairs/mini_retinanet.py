_base_ = '../mini_retinanet.py'

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DPKDistill',
    # `to_dict` copies: a change of the one must not reach the other.
    architecture=dict(_base_.model.to_dict(), _scope_='mmdet'),
    teacher=dict(
        _base_.model.to_dict(),
        _scope_='mmdet',
        backbone=dict(_base_.model.backbone.to_dict(), base_channels=32),
        neck=dict(_base_.model.neck.to_dict(), in_channels=[32, 64, 128, 256]),
    ),
    teacher_ckpt='work_dirs/retinanet_teacher/epoch_18.pth',
    teacher_command='python tools/train.py configs/mini/retinanet_teacher.py',
    # FGD's inheriting strategy, as in the paper: what follows the neck's sums is as wide in both. `inherit=None` starts
    # all of the student from random weights.
    # (the convolution of P6 reads the backbone, whose width differs)
    inherit=['neck.fpn_convs.0', 'neck.fpn_convs.1', 'neck.fpn_convs.2', 'bbox_head'],
    distiller=dict(type='DPKDistiller', records=dict(feats='neck')),
)

find_unused_parameters = False

custom_imports = dict(imports=['dpk_mm'], allow_failed_imports=False)
default_hooks = dict(
    student_checkpoint=dict(type='mmrazor.StudentCheckpointHook'),
    distill_alarm=dict(type='mmrazor.DistillAlarmHook'),
)

# How tools/experiments/compare.py draws the images, with 300 that are held out, and trains the teacher: as
# configs/mini/retinanet_teacher.py does.
comparison = dict(
    data=dict(kind='shapes'),
    teacher=dict(
        train_cfg=dict(max_epochs=18),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
            dict(
                type='CosineAnnealingLR',
                T_max=18,
                end=18,
                by_epoch=True,
                convert_to_iter_based=True,
            ),
        ],
    ),
)
