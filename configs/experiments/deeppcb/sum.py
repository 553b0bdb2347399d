# FGD on the student's own feature of every level, and on the hybrids of two of them.
_base_ = './pair.py'
from dpk_mm.models.methods import dpk_fgd, fgd  # noqa: E402

model = dict(
    distiller=dict(
        distill_losses=fgd('bccd/faster_rcnn', 'mini_two_stage')
        | dpk_fgd('bccd/faster_rcnn', 'mini_two_stage', stages=('P3', 'P4'), hybrids_alone=True)
    )
)
default_hooks = dict(mask_ratio=dict(type='mmrazor.CKAMaskRatioHook', samples='positions'))
