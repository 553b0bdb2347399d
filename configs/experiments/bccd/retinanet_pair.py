_base_ = './retinanet_alone.py'

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
    teacher_ckpt='work_dirs/retinanet_teacher/epoch_20.pth',
    teacher_command='python tools/train.py configs/experiments/bccd/retinanet_teacher.py',
    # FGD's inheriting strategy, as in the paper. The grids of the first experiments set `inherit=None`.
    # (the convolution of P6 reads the backbone, whose width differs)
    inherit=['neck.fpn_convs.0', 'neck.fpn_convs.1', 'neck.fpn_convs.2', 'bbox_head'],
    distiller=dict(type='DPKDistiller', records=dict(feats='neck')),
)

# The student's as in training it alone; the distillation's own parameters apart. The authors' code does so for
# classification; for detection it has one SGD with a rate of 0.01 for both.
optim_wrapper = dict(
    _delete_=True,
    constructor='mmrazor.DPKOptimWrapperConstructor',
    clip_grad=_base_.optim_wrapper.clip_grad.to_dict(),
    architecture=dict(optimizer=_base_.optim_wrapper.optimizer.to_dict()),
    distiller=dict(optimizer=dict(_base_.optim_wrapper.optimizer.to_dict(), lr=1e-3)),
)

find_unused_parameters = False

custom_imports = dict(imports=['dpk_mm'], allow_failed_imports=False)
default_hooks = dict(student_checkpoint=dict(type='mmrazor.StudentCheckpointHook'))
