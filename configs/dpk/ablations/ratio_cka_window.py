# Eq. 7 with k = 8: HSIC is averaged over eight mini-batches before the division.
_base_ = '../../_base_/imagenet_dpk_ablation.py'

default_hooks = dict(
    mask_ratio=dict(_delete_=True, type='mmrazor.CKAMaskRatioHook', samples='images', window=8)
)
