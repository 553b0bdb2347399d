# pi = 0.35 in every mini-batch: between the ratios that the text names for Table 5.
_base_ = '../../_base_/imagenet_dpk_ablation.py'

custom_hooks = [
    dict(type='mmrazor.FixedMaskRatioHook', ratio=0.35),
    dict(type='mmrazor.StudentCheckpointHook'),
]
