_base_ = '../../_base_/pairs/imagenet/swin_s_swin_t.py'
from dpk_mm.models.methods import dpk, kd  # noqa: E402

model = dict(distiller=dict(distill_losses=kd(tau=1.0) | dpk('imagenet/swin-s_swin-t')))
default_hooks = dict(mask_ratio=dict(type='mmrazor.CKAMaskRatioHook', samples='images'))
