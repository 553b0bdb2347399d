# Table 6, the authors' code: pi = (1 - epoch / 200) * 0.95.
_base_ = '../../_base_/imagenet_dpk_ablation.py'

custom_hooks = [
    dict(type='mmrazor.LinearMaskRatioHook', initial=0.95, decrement=0.95 / 200),
    dict(type='mmrazor.StudentCheckpointHook'),
]
