# An exponential moving average of HSIC before the division of Eq. 7; not in the paper.
_base_ = '../../_base_/imagenet_dpk_ablation.py'

default_hooks = dict(
    mask_ratio=dict(_delete_=True, type='mmrazor.CKAMaskRatioHook', samples='images', momentum=0.9)
)
