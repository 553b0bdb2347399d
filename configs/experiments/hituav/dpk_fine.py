# DPK on P2 and P3, where nine of ten objects of HIT-UAV are: boxes below 28 pixels are read from P2, below 56 from P3.
# P4 and P5, as in the paper, hold the others. 16 x 16 tokens on both, modules of one block.
_base_ = './pair.py'
from dpk_mm.models.methods import dpk_fgd  # noqa: E402

distill_losses = dpk_fgd('bccd/faster_rcnn', 'mini_two_stage', stages=('P3',))
P3 = dict(distill_losses['loss_dpk']['transforms']['P3'], encoder_depth=1, decoder_depth=1)
distill_losses['loss_dpk']['transforms'] = dict(P2=dict(P3, index=0, patch_size=4), P3=P3)

model = dict(distiller=dict(distill_losses=distill_losses))
default_hooks = dict(mask_ratio=dict(type='mmrazor.CKAMaskRatioHook', samples='positions'))
