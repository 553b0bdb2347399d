_base_ = '../../_base_/imagenet_dpk_ablation.py'

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_dpk=dict(
                transforms=dict(
                    last=dict(
                        _delete_=True,
                        type='ConvEncoderDecoderTransform',
                        index=1,
                        student_channels=512,
                        teacher_channels=512,
                        embed_dims=512,
                        encoder_depth=2,
                        decoder_depth=2,
                    )
                )
            )
        )
    )
)
