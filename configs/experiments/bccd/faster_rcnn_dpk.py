_base_ = './faster_rcnn_pair.py'
from dpk_mm.models.methods import dpk_fgd  # noqa: E402

model = dict(
    distiller=dict(distill_losses=dpk_fgd('bccd/faster_rcnn', 'mini_two_stage', name='loss_feat'))
)
default_hooks = dict(mask_ratio=dict(type='mmrazor.CKAMaskRatioHook', samples='positions'))
