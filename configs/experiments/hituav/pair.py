_base_ = './alone.py'

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
    teacher_ckpt='work_dirs/teacher/epoch_8.pth',
    teacher_command='python tools/train.py configs/experiments/hituav/teacher.py',
    # FGD's inheriting strategy: what follows the neck's sums is as wide in both.
    inherit=['neck.fpn_convs', 'rpn_head', 'roi_head'],
    distiller=dict(type='DPKDistiller', records=dict(feats='neck')),
)

# The student's as in training it alone; the distillation's own parameters apart.
optim_wrapper = dict(
    _delete_=True,
    constructor='mmrazor.DPKOptimWrapperConstructor',
    clip_grad=_base_.optim_wrapper.clip_grad.to_dict(),
    architecture=dict(optimizer=_base_.optim_wrapper.optimizer.to_dict()),
    distiller=dict(optimizer=dict(_base_.optim_wrapper.optimizer.to_dict(), lr=1e-3)),
)

find_unused_parameters = False

default_hooks = dict(student_checkpoint=dict(type='mmrazor.StudentCheckpointHook'))
custom_hooks = [dict(type='mmrazor.LossGradientHook', interval=20, by_level=True)]
