# Eq. 7 with k = 8: HSIC is averaged over eight mini-batches before the division.
_base_ = '../../_base_/imagenet_dpk_ablation.py'

custom_hooks = [
    dict(type='mmrazor.CKAMaskRatioHook', samples='images', window=8),
    dict(type='mmrazor.StudentCheckpointHook'),
]
