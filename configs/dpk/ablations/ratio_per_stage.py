# Two stages, each with a ratio of its own; every number of a mask-ratio hook may be a dict by stage.
_base_ = '../imagenet/resnet34_resnet18.py'

custom_hooks = [
    dict(type='mmrazor.FixedMaskRatioHook', ratio=dict(second_last=0.25, last=0.55)),
    dict(type='mmrazor.StudentCheckpointHook'),
]
