# KD, and DPK on the last stage, 4x4 tokens.
_base_ = './fitnets.py'

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_feat=dict(
                transforms=dict(
                    last=dict(
                        _delete_=True,
                        type='DPKTransform',
                        index=1,
                        student_channels=64,
                        teacher_channels=192,
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
    )
)

default_hooks = dict(mask_ratio=dict(type='mmrazor.CKAMaskRatioHook', samples='images'))
