_base_ = './active_uncertainty_sample.py'

model = dict(
    distiller=dict(
        distill_losses=dict(loss_dpk=dict(transforms=dict(last=dict(mask=dict(opposite=True)))))
    )
)
