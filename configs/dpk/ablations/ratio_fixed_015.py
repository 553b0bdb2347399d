# Table 5: pi = 0.15 in every mini-batch.
_base_ = '../../_base_/imagenet_dpk_ablation.py'

default_hooks = dict(mask_ratio=dict(_delete_=True, type='mmrazor.FixedMaskRatioHook', ratio=0.15))
