# Table 6: pi = 1 - cosine similarity.
_base_ = '../../_base_/imagenet_dpk_ablation.py'

custom_hooks = [
    dict(type='mmrazor.CosineMaskRatioHook'),
    dict(type='mmrazor.StudentCheckpointHook'),
]
