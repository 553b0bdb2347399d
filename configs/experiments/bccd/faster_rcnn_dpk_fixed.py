_base_ = './faster_rcnn_dpk.py'

custom_hooks = [
    dict(type='mmrazor.FixedMaskRatioHook', ratio=0.5),
    dict(type='mmrazor.StudentCheckpointHook'),
]
