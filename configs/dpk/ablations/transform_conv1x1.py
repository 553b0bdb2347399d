_base_ = '../../_base_/imagenet_dpk_ablation.py'

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_dpk=dict(
                transforms=dict(
                    last=dict(
                        _delete_=True,
                        type='ConvTransform',
                        index=1,
                        student_channels=512,
                        teacher_channels=512,
                    )
                )
            )
        )
    )
)
