_base_ = '../_base_/mini_faster_rcnn.py'

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
    teacher_ckpt='work_dirs/faster_rcnn_teacher/epoch_8.pth',
    teacher_command='python tools/train.py configs/mini/faster_rcnn_teacher.py',
    # Nothing is inherited, so that all students begin with the same random weights and the
    # comparison is of the losses alone; `['rpn_head', 'roi_head']` would fit.
    inherit=None,
    distiller=dict(
        type='DPKDistiller',
        student_recorders=dict(
            neck=dict(type='ModuleOutputs', source='neck'),
            data_samples=dict(type='ModuleInputs', source=''),
        ),
        teacher_recorders=dict(neck=dict(type='ModuleOutputs', source='neck')),
        distill_losses=dict(
            loss_fgd=dict(
                type='FGDLoss',
                levels=(0, 1, 2, 3),
                student_channels=64,
                teacher_channels=64,
                # the two-stage weights times ten: these features are small and have few channels
                weights=dict(alpha=5e-4, beta=2.5e-4, gamma=5e-4, lam=5e-6),
            )
        ),
        loss_forward_mappings=dict(
            loss_fgd=dict(
                student_feats=dict(recorder='neck', from_student=True),
                teacher_feats=dict(recorder='neck', from_student=False),
                data_samples=dict(recorder='data_samples', from_student=True, data_idx=1),
            )
        ),
    ),
)

find_unused_parameters = False

custom_imports = dict(imports=['dpk_mm'], allow_failed_imports=False)
custom_hooks = [dict(type='mmrazor.StudentCheckpointHook')]
