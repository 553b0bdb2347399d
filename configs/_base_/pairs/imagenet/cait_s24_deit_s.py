_base_ = '../../imagenet_cait_deit.py'

model = dict(
    architecture=dict(backbone=dict(arch='deit-small'), head=dict(in_channels=384)),
)
