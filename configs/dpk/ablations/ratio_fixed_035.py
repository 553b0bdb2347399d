# pi = 0.35 in every mini-batch: between the ratios that the text names for Table 5.
_base_ = '../../_base_/imagenet_dpk_ablation.py'

default_hooks = dict(mask_ratio=dict(_delete_=True, type='mmrazor.FixedMaskRatioHook', ratio=0.35))
