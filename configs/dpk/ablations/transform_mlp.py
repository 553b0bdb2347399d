_base_ = '../../_base_/imagenet_dpk_ablation.py'

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_dpk=dict(
                transforms=dict(
                    last=dict(
                        _delete_=True,
                        type='MLPDecoderTransform',
                        index=1,
                        student_channels=512,
                        teacher_channels=512,
                        embed_dims=512,
                        decoder_depth=6,
                        num_heads=8,
                        position_grid=(7, 7),
                    )
                )
            )
        )
    )
)
