_base_ = '../../_base_/pairs/cifar100/wrn40-2_wrn16-2.py'
from dpk_mm.models.methods import dpk, kd  # noqa: E402

model = dict(distiller=dict(distill_losses=kd(tau=4.0) | dpk('cifar100/wrn40-2_wrn16-2')))
default_hooks = dict(mask_ratio=dict(type='mmrazor.CKAMaskRatioHook', samples='images'))
