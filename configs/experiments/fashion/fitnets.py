# KD, and a 1x1 convolution of the last stage's feature against the teacher's.
_base_ = './kd.py'

model = dict(
    distiller=dict(
        records=dict(feats='backbone'),
        distill_losses=dict(
            loss_feat=dict(
                type='DPKLoss',
                loss_weight=0.2,
                transforms=dict(
                    last=dict(
                        type='ConvTransform', index=1, student_channels=64, teacher_channels=192
                    ),
                ),
            ),
        ),
    )
)

# The student's as in training it alone; the distillation's own parameters have AdamW, as in the
# authors' code.
optim_wrapper = dict(
    _delete_=True,
    constructor='mmrazor.DPKOptimWrapperConstructor',
    clip_grad=_base_.optim_wrapper.clip_grad.to_dict(),
    architecture=dict(optimizer=dict(_base_.optim_wrapper.optimizer.to_dict())),
    distiller=dict(optimizer=dict(type='AdamW', lr=1e-3, weight_decay=1e-4)),
)
