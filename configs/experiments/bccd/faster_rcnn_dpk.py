_base_ = './faster_rcnn_fgd.py'

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_feat=dict(
                _delete_=True,
                type='DPKLoss',
                # 12x16, 12x16 and 6x8 tokens
                transforms=dict(
                    P3=dict(
                        index=1,
                        student_channels=64,
                        teacher_channels=64,
                        patch_size=2,
                        embed_dims=128,
                        encoder_depth=2,
                        decoder_embed_dims=128,
                        decoder_depth=2,
                        num_heads=4,
                        position_embedding='sinusoidal',
                    ),
                    P4=dict(
                        index=2,
                        student_channels=64,
                        teacher_channels=64,
                        patch_size=1,
                        embed_dims=64,
                        encoder_depth=2,
                        decoder_embed_dims=64,
                        decoder_depth=2,
                        num_heads=4,
                        position_embedding='sinusoidal',
                    ),
                    P5=dict(
                        index=3,
                        student_channels=64,
                        teacher_channels=64,
                        patch_size=1,
                        embed_dims=64,
                        encoder_depth=2,
                        decoder_embed_dims=64,
                        decoder_depth=2,
                        num_heads=4,
                        position_embedding='sinusoidal',
                    ),
                ),
                criterion=_base_.model.distiller.distill_losses.loss_feat.to_dict(),
            )
        )
    )
)

custom_hooks = [
    # positions as samples, as in the configs for COCO
    dict(type='mmrazor.CKAMaskRatioHook', samples='positions'),
    dict(type='mmrazor.StudentCheckpointHook'),
]
