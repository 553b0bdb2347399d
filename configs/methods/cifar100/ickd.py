_base_ = '../../_base_/pairs/cifar100/resnet56_resnet20.py'
from dpk_mm.models.methods import ickd  # noqa: E402

model = dict(distiller=dict(distill_losses=ickd('cifar100/resnet56_resnet20')))
