# The same encoder and decoder, and nothing from the teacher in the student's feature.
_base_ = './retinanet_dpk.py'

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_feat=dict(
                transforms=dict(P3=dict(prior='none'), P4=dict(prior='none'), P5=dict(prior='none'))
            )
        )
    )
)
