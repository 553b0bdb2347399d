_base_ = './active_foreground_sample.py'

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_dpk=dict(
                transforms=dict(P4=dict(mask=dict(select='top')), P5=dict(mask=dict(select='top')))
            )
        )
    )
)
