_base_ = '../_base_/pairs/coco_faster_rcnn_r101_r18.py'
from dpk_mm.models.methods import dpk_fgd  # noqa: E402

model = dict(distiller=dict(distill_losses=dpk_fgd('coco/faster_rcnn', 'dpk_two_stage_text')))
# Four images a GPU are enough for CKA over images, and few: positions are the samples, as in the other pairs, which
# have two. `samples='images'` is the paper's.
default_hooks = dict(mask_ratio=dict(type='mmrazor.CKAMaskRatioHook', samples='positions'))
