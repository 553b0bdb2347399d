# Table 6, the authors' code: pi = (1 - epoch / 200) * 0.95.
_base_ = '../../_base_/imagenet_dpk_ablation.py'

default_hooks = dict(
    mask_ratio=dict(
        _delete_=True, type='mmrazor.LinearMaskRatioHook', initial=0.95, decrement=0.95 / 200
    )
)
