_base_ = '../../_base_/pairs/cifar100/resnet56_resnet20.py'
from dpk_mm.models.methods import kd, tofd  # noqa: E402

# the authors' code has no tau^2 in the divergence of the logits, KDLoss has
PAIR = 'cifar100/resnet56_resnet20'
LOSSES = kd(tau=3.0, loss_weight=1 / 9) | tofd(PAIR, num_classes=100, before=[(16, 16)])
model = dict(
    architecture=dict(backbone=dict(out_indices=(1, 2, 3))),
    teacher=dict(backbone=dict(out_indices=(1, 2, 3))),
    distiller=dict(distill_losses=LOSSES),
)
