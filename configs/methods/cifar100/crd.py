_base_ = '../../_base_/pairs/cifar100/resnet56_resnet20.py'
from dpk_mm.models.methods import crd  # noqa: E402

model = dict(distiller=dict(distill_losses=crd('cifar100/resnet56_resnet20', num_images=50000)))
