# Table 6, the text: pi = 0.95 ** epoch, without a clamp.
_base_ = '../../_base_/imagenet_dpk_ablation.py'

default_hooks = dict(
    mask_ratio=dict(
        _delete_=True,
        type='mmrazor.ExponentialMaskRatioHook',
        initial=1.0,
        decay=0.95,
        min_ratio=0.0,
        max_ratio=1.0,
    )
)
