# The same encoder and decoder, and nothing from the teacher in the student's feature.
_base_ = './dpk.py'

model = dict(
    distiller=dict(distill_losses=dict(loss_feat=dict(transforms=dict(last=dict(prior='none')))))
)
