_base_ = '../../_base_/pairs/cifar100/resnet56_resnet20.py'
from dpk_mm.models.methods import dkd  # noqa: E402

model = dict(distiller=dict(distill_losses=dkd('cifar100/resnet56_resnet20')))
