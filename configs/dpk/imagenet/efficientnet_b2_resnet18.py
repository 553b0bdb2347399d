_base_ = '../../_base_/pairs/imagenet/efficientnet_b2_resnet18.py'
from dpk_mm.models.methods import dpk, kd  # noqa: E402

model = dict(distiller=dict(distill_losses=kd(tau=1.0) | dpk('imagenet/efficientnet-b2_resnet18')))
default_hooks = dict(mask_ratio=dict(type='mmrazor.CKAMaskRatioHook', samples='images'))
