_base_ = '../_base_/pairs/coco_retinanet_r101_r50.py'
from dpk_mm.models.methods import dpk_fgd  # noqa: E402

model = dict(distiller=dict(distill_losses=dpk_fgd('coco/retinanet', 'dpk_one_stage_text')))
# CKA needs four samples or more, and two images a GPU are too few: positions are the samples.
default_hooks = dict(mask_ratio=dict(type='mmrazor.CKAMaskRatioHook', samples='positions'))
