_base_ = '../../_base_/imagenet_dpk_ablation.py'

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_dpk=dict(
                transforms=dict(
                    last=dict(mask=dict(type='scores', score='gap', select='sample', opposite=True))
                )
            )
        )
    )
)
