# Two stages, each with a ratio of its own; every number of a mask-ratio hook may be a dict by stage.
_base_ = '../imagenet/resnet34_resnet18.py'

default_hooks = dict(
    mask_ratio=dict(
        _delete_=True, type='mmrazor.FixedMaskRatioHook', ratio=dict(second_last=0.25, last=0.55)
    )
)
