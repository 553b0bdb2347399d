_base_ = './retinanet_dpk.py'

default_hooks = dict(mask_ratio=dict(_delete_=True, type='mmrazor.FixedMaskRatioHook', ratio=0.5))
