_base_ = '../../_base_/pairs/cifar100/resnet56_resnet20.py'
from dpk_mm.models.methods import at  # noqa: E402

model = dict(
    architecture=dict(backbone=dict(out_indices=(1, 2, 3))),
    teacher=dict(backbone=dict(out_indices=(1, 2, 3))),
    distiller=dict(distill_losses=at('cifar100/resnet56_resnet20', before=[(16, 16)])),
)
