# FGD on the student's own feature of every level, and on the hybrids of P4 and P5.
_base_ = '../../_base_/pairs/mini_faster_rcnn.py'
from dpk_mm.models.methods import dpk_fgd, fgd  # noqa: E402

model = dict(
    distiller=dict(
        distill_losses=fgd('mini/faster_rcnn', 'mini_two_stage')
        | dpk_fgd('mini/faster_rcnn', 'mini_two_stage', hybrids_alone=True)
    )
)
default_hooks = dict(mask_ratio=dict(type='mmrazor.CKAMaskRatioHook', samples='positions'))
custom_hooks = [dict(type='mmrazor.LossGradientHook', interval=20, by_level=True)]
