# Table 5: pi = 0.95 in every mini-batch.
_base_ = '../../_base_/imagenet_dpk_ablation.py'

custom_hooks = [
    dict(type='mmrazor.FixedMaskRatioHook', ratio=0.95),
    dict(type='mmrazor.StudentCheckpointHook'),
]
