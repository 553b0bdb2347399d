_base_ = './ratio_fixed_075.py'

model = dict(
    distiller=dict(distill_losses=dict(loss_dpk=dict(transforms=dict(last=dict(mask='grid')))))
)
