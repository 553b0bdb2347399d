_base_ = './fashion_vit_kd.py'

model = dict(
    distiller=dict(
        # tokens of the middle block and of the last one
        student_recorders=dict(
            tokens=dict(
                type='MultiModuleOutputs', source=['backbone.layers.1', 'backbone.layers.3']
            )
        ),
        teacher_recorders=dict(
            tokens=dict(
                type='MultiModuleOutputs', source=['backbone.layers.2', 'backbone.layers.5']
            )
        ),
        distill_losses=dict(
            loss_dpk=dict(
                type='DPKLoss',
                loss_weight=0.2,
                transforms=dict(
                    second_last=dict(
                        index=0,
                        student_channels=32,
                        teacher_channels=64,
                        # the class tokens are put aside
                        student_extra_tokens=1,
                        teacher_extra_tokens=1,
                        patch_size=1,
                        embed_dims=64,
                        encoder_depth=2,
                        decoder_embed_dims=64,
                        decoder_depth=2,
                        num_heads=4,
                        position_embedding='sinusoidal',
                    ),
                    last=dict(
                        index=1,
                        student_channels=32,
                        teacher_channels=64,
                        student_extra_tokens=1,
                        teacher_extra_tokens=1,
                        patch_size=1,
                        embed_dims=64,
                        encoder_depth=2,
                        decoder_embed_dims=64,
                        decoder_depth=2,
                        num_heads=4,
                        position_embedding='sinusoidal',
                    ),
                ),
            ),
        ),
        loss_forward_mappings=dict(
            loss_dpk=dict(
                student_feats=dict(recorder='tokens', from_student=True),
                teacher_feats=dict(recorder='tokens', from_student=False),
            ),
        ),
    )
)

custom_hooks = [
    dict(type='mmrazor.CKAMaskRatioHook', samples='images'),
    dict(type='mmrazor.StudentCheckpointHook'),
]
