_base_ = '../_base_/pairs/mini_faster_rcnn.py'
from dpk_mm.models.methods import dpk_fgd  # noqa: E402

model = dict(distiller=dict(distill_losses=dpk_fgd('mini/faster_rcnn', 'mini_two_stage')))
default_hooks = dict(mask_ratio=dict(type='mmrazor.CKAMaskRatioHook', samples='positions'))
