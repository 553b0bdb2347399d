_base_ = '../../_base_/pairs/cifar100/resnet56_resnet20.py'
from dpk_mm.models.methods import nkd  # noqa: E402

model = dict(distiller=dict(distill_losses=nkd(tau=3.0, gamma=3.5)))
