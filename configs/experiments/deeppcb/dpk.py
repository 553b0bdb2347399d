# DPK on two levels with FGD as its criterion; grids set the weights of the levels, and forms of the modules.
_base_ = './pair.py'
from dpk_mm.models.methods import dpk_fgd  # noqa: E402

model = dict(
    distiller=dict(
        distill_losses=dpk_fgd('bccd/faster_rcnn', 'mini_two_stage', stages=('P3', 'P4'))
    )
)
default_hooks = dict(mask_ratio=dict(type='mmrazor.CKAMaskRatioHook', samples='positions'))
