_base_ = './retinanet_pair.py'
from dpk_mm.models.methods import dpk_fgd  # noqa: E402

model = dict(
    distiller=dict(distill_losses=dpk_fgd('bccd/retinanet', 'mini_one_stage', name='loss_feat'))
)
default_hooks = dict(mask_ratio=dict(type='mmrazor.CKAMaskRatioHook', samples='positions'))
