# Teacher, on all images; grids set its width.
_base_ = './retinanet_alone.py'

model = dict(backbone=dict(base_channels=32), neck=dict(in_channels=[32, 64, 128, 256]))

train_dataloader = dict(dataset=dict(indices=None))
train_cfg = dict(max_epochs=20)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', T_max=20, end=20, by_epoch=True, convert_to_iter_based=True),
]
