_base_ = './retinanet_dpk.py'

custom_hooks = [
    dict(type='mmrazor.FixedMaskRatioHook', ratio=0.5),
    dict(type='mmrazor.StudentCheckpointHook'),
]
