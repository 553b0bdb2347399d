# Table 6, the authors' code: pi = 0.99 ** epoch, within their clamp of [0.10, 0.95].
_base_ = '../../_base_/imagenet_dpk_ablation.py'

default_hooks = dict(
    mask_ratio=dict(_delete_=True, type='mmrazor.ExponentialMaskRatioHook', initial=1.0, decay=0.99)
)
