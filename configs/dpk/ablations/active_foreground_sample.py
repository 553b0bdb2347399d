_base_ = '../faster_rcnn_r152_r50.py'

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_dpk=dict(
                transforms=dict(
                    P4=dict(mask=dict(type='scores', score='foreground')),
                    P5=dict(mask=dict(type='scores', score='foreground')),
                )
            )
        )
    )
)
