_base_ = '../../_base_/pairs/cifar100/resnet56_resnet20.py'
from dpk_mm.models.methods import afd, kd  # noqa: E402

# published beside KD
LOSSES = kd(tau=4.0, loss_weight=0.9) | afd('cifar100/resnet56_resnet20', before=[(16, 16)])
model = dict(
    architecture=dict(backbone=dict(out_indices=(1, 2, 3))),
    teacher=dict(backbone=dict(out_indices=(1, 2, 3))),
    distiller=dict(distill_losses=LOSSES),
)
