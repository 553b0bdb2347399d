# Table 6, the text to the letter: pi = 1 - 0.95 * epoch, which is 0 from the third epoch on. The text
# gives pi_0 = 1 for its exponential schedule, none for this one, and no clamp.
_base_ = '../../_base_/imagenet_dpk_ablation.py'

default_hooks = dict(
    mask_ratio=dict(
        _delete_=True,
        type='mmrazor.LinearMaskRatioHook',
        initial=1.0,
        decrement=0.95,
        min_ratio=0.0,
        max_ratio=1.0,
    )
)
