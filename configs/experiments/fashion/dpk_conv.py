# A convolutional encoder-decoder in place of the ViT, at ratio 0.5.
_base_ = './dpk_fixed.py'

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_feat=dict(
                transforms=dict(
                    last=dict(
                        _delete_=True,
                        type='ConvEncoderDecoderTransform',
                        index=1,
                        student_channels=64,
                        teacher_channels=192,
                        embed_dims=64,
                        encoder_depth=2,
                        decoder_depth=2,
                    ),
                ),
            ),
        ),
    )
)
