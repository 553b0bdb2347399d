_base_ = './alone.py'

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DPKDistill',
    # `to_dict` copies: a change of the one must not reach the other.
    architecture=dict(_base_.model.to_dict(), _scope_='mmpretrain'),
    teacher=dict(
        _base_.model.to_dict(),
        _scope_='mmpretrain',
        backbone=dict(_base_.model.backbone.to_dict(), stem_channels=24, base_channels=24),
        head=dict(_base_.model.head.to_dict(), in_channels=192),
    ),
    teacher_ckpt='work_dirs/teacher/epoch_4.pth',
    teacher_command='python tools/train.py configs/experiments/fashion/teacher.py',
    distiller=dict(
        type='DPKDistiller',
        records=dict(logits='head.fc'),
        distill_losses=dict(loss_kd=dict(type='KDLoss', tau=4.0, loss_weight=0.8)),
    ),
)

find_unused_parameters = False

default_hooks = dict(student_checkpoint=dict(type='mmrazor.StudentCheckpointHook'))
