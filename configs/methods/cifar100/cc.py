_base_ = '../../_base_/pairs/cifar100/resnet56_resnet20.py'
from dpk_mm.models.methods import cc  # noqa: E402

model = dict(
    distiller=dict(records=dict(embedding='neck'), distill_losses=cc(64, 64)),
)
