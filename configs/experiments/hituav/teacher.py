# Teacher, on sixteen times the student's images; grids set its width. 3,200 iterations: after 1,000 it has 9 mAP.
_base_ = './alone.py'

model = dict(backbone=dict(base_channels=32), neck=dict(in_channels=[32, 64, 128, 256]))

train_dataloader = dict(dataset=dict(indices=1600))
train_cfg = dict(max_epochs=8)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', T_max=8, end=8, by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=1))
