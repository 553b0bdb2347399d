# For the teachers whose last two stages have 8x8 and 4x4 cells: VGG-13 and ResNet-50.
_base_ = './cifar100_dpk.py'

model = dict(
    distiller=dict(
        distill_losses=dict(
            loss_dpk=dict(
                transforms=dict(
                    second_last=dict(position_grid=(8, 8)), last=dict(position_grid=(4, 4))
                )
            )
        )
    )
)
