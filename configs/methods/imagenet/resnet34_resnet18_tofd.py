_base_ = '../../_base_/pairs/imagenet/resnet34_resnet18.py'
from dpk_mm.models.methods import kd, tofd  # noqa: E402

# the authors' code has no tau^2 in the divergence of the logits, KDLoss has
LOSSES = kd(tau=3.0, loss_weight=1 / 9) | tofd(
    'imagenet/resnet34_resnet18', num_classes=1000, before=[(64, 64), (128, 128)]
)
model = dict(
    architecture=dict(backbone=dict(out_indices=(0, 1, 2, 3))),
    teacher=dict(backbone=dict(out_indices=(0, 1, 2, 3))),
    distiller=dict(distill_losses=LOSSES),
)
