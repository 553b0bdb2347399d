_base_ = './fashion_cnn_kd.py'

model = dict(
    distiller=dict(
        student_recorders=dict(backbone=dict(type='ModuleOutputs', source='backbone')),
        teacher_recorders=dict(backbone=dict(type='ModuleOutputs', source='backbone')),
        distill_losses=dict(
            loss_dpk=dict(
                type='DPKLoss',
                loss_weight=0.2,
                transforms=dict(
                    second_last=dict(
                        index=0,
                        student_channels=32,
                        teacher_channels=64,
                        patch_size=1,
                        embed_dims=64,
                        encoder_depth=2,
                        decoder_embed_dims=64,
                        decoder_depth=2,
                        num_heads=4,
                        position_grid=(7, 7),
                    ),
                    last=dict(
                        index=1,
                        student_channels=64,
                        teacher_channels=128,
                        patch_size=1,
                        embed_dims=64,
                        encoder_depth=2,
                        decoder_embed_dims=64,
                        decoder_depth=2,
                        num_heads=4,
                        position_grid=(4, 4),
                    ),
                ),
            ),
        ),
        loss_forward_mappings=dict(
            loss_dpk=dict(
                student_feats=dict(recorder='backbone', from_student=True),
                teacher_feats=dict(recorder='backbone', from_student=False),
            ),
        ),
    )
)

# The transformation modules are transformers and learn with AdamW, the student with SGD as it does alone.
optim_wrapper = dict(
    _delete_=True,
    constructor='mmrazor.DPKOptimWrapperConstructor',
    architecture=dict(optimizer=_base_.optim_wrapper.optimizer.to_dict()),
    distiller=dict(
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
        paramwise_cfg=dict(flat_decay_mult=0.0),
    ),
)


custom_hooks = [
    dict(type='mmrazor.CKAMaskRatioHook', samples='images'),
    dict(type='mmrazor.StudentCheckpointHook'),
]
