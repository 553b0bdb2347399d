# Table 6: pi = 1 - cosine similarity.
_base_ = '../../_base_/imagenet_dpk_ablation.py'

default_hooks = dict(mask_ratio=dict(_delete_=True, type='mmrazor.CosineMaskRatioHook'))
