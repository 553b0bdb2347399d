# Table 6, Eq. 5-7 with k = 1: pi = 1 - CKA of this mini-batch, the method's default.
_base_ = '../../_base_/imagenet_dpk_ablation.py'

default_hooks = dict(
    mask_ratio=dict(_delete_=True, type='mmrazor.CKAMaskRatioHook', samples='images')
)
