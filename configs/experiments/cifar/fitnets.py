# KD, and 1x1 convolutions of the last two stages' features against the teacher's.
_base_ = './dpk.py'

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_feat=dict(
                transforms=dict(
                    second_last=dict(
                        _delete_=True,
                        type='ConvTransform',
                        index=0,
                        student_channels=16,
                        teacher_channels=48,
                    ),
                    last=dict(
                        _delete_=True,
                        type='ConvTransform',
                        index=1,
                        student_channels=32,
                        teacher_channels=96,
                    ),
                )
            )
        )
    )
)
