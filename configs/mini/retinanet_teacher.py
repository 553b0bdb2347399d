_base_ = '../_base_/mini_retinanet.py'

model = dict(backbone=dict(base_channels=32), neck=dict(in_channels=[32, 64, 128, 256]))

# Long enough that a student gains from its heads, and the whole quickstart stays within a quarter of an hour.
train_cfg = dict(max_epochs=18)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', T_max=18, end=18, by_epoch=True, convert_to_iter_based=True),
]
