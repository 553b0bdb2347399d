_base_ = '../../_base_/pairs/imagenet/cait_s24_deit_s.py'
from dpk_mm.models.methods import dpk, kd  # noqa: E402

model = dict(distiller=dict(distill_losses=kd(tau=1.0) | dpk('imagenet/cait-s24_deit-s')))
default_hooks = dict(mask_ratio=dict(type='mmrazor.CKAMaskRatioHook', samples='images'))
