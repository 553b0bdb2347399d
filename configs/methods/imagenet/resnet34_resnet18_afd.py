_base_ = '../../_base_/pairs/imagenet/resnet34_resnet18.py'
from dpk_mm.models.methods import afd, kd  # noqa: E402

BEFORE = [(64, 64), (128, 128)]
# published beside KD, for CIFAR-100
LOSSES = kd(tau=4.0, loss_weight=0.9) | afd('imagenet/resnet34_resnet18', before=BEFORE)
model = dict(
    architecture=dict(backbone=dict(out_indices=(0, 1, 2, 3))),
    teacher=dict(backbone=dict(out_indices=(0, 1, 2, 3))),
    distiller=dict(distill_losses=LOSSES),
)
