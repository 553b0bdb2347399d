_base_ = '../../_base_/pairs/cifar100/resnet56_resnet20.py'
from dpk_mm.models.methods import ofd  # noqa: E402

model = dict(
    architecture=dict(backbone=dict(out_indices=(1, 2, 3), preact=True)),
    teacher=dict(backbone=dict(out_indices=(1, 2, 3), preact=True)),
    distiller=dict(
        distill_losses=ofd(
            'cifar100/resnet56_resnet20',
            ['layer1.8.bn2', 'layer2.8.bn2', 'layer3.8.bn2'],
            before=[(16, 16)],
        )
    ),
)
