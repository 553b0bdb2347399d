_base_ = '../_base_/mini_fashion_vit.py'

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DPKDistill',
    # `to_dict` copies: a change of the one must not reach the other.
    architecture=dict(_base_.model.to_dict(), _scope_='mmpretrain'),
    teacher=dict(
        _base_.model.to_dict(),
        _scope_='mmpretrain',
        backbone=dict(
            _base_.model.backbone.to_dict(),
            arch=dict(embed_dims=64, num_layers=6, num_heads=4, feedforward_channels=128),
        ),
        head=dict(_base_.model.head.to_dict(), in_channels=64),
    ),
    teacher_ckpt='work_dirs/fashion_vit_teacher/epoch_15.pth',
    teacher_command='python tools/train.py configs/mini/fashion_vit_teacher.py',
    distiller=dict(
        type='DPKDistiller',
        student_recorders=dict(logits=dict(type='ModuleOutputs', source='head.layers.head')),
        teacher_recorders=dict(logits=dict(type='ModuleOutputs', source='head.layers.head')),
        distill_losses=dict(loss_kd=dict(type='KLDivergence', tau=4.0, loss_weight=0.8)),
        loss_forward_mappings=dict(
            loss_kd=dict(
                preds_S=dict(recorder='logits', from_student=True),
                preds_T=dict(recorder='logits', from_student=False),
            )
        ),
    ),
)

find_unused_parameters = False

custom_hooks = [dict(type='mmrazor.StudentCheckpointHook')]
