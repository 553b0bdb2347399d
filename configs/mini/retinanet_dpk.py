_base_ = '../_base_/pairs/mini_retinanet.py'
from dpk_mm.models.methods import dpk_fgd  # noqa: E402

model = dict(distiller=dict(distill_losses=dpk_fgd('mini/retinanet', 'mini_one_stage')))
default_hooks = dict(mask_ratio=dict(type='mmrazor.CKAMaskRatioHook', samples='positions'))
