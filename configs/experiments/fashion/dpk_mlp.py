# A ViT decoder on linear embeddings, at ratio 0.5.
_base_ = './dpk_fixed.py'

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_feat=dict(
                transforms=dict(
                    last=dict(
                        _delete_=True,
                        type='MLPDecoderTransform',
                        index=1,
                        student_channels=64,
                        teacher_channels=192,
                        embed_dims=64,
                        decoder_depth=2,
                        num_heads=4,
                        position_embedding='sinusoidal',
                    ),
                ),
            ),
        ),
    )
)
