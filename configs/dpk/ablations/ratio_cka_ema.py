# An exponential moving average of HSIC before the division of Eq. 7; not in the paper.
_base_ = '../../_base_/imagenet_dpk_ablation.py'

custom_hooks = [
    dict(type='mmrazor.CKAMaskRatioHook', samples='images', momentum=0.9),
    dict(type='mmrazor.StudentCheckpointHook'),
]
