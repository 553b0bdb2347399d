# Three times as wide, on five times as many images.
_base_ = './alone.py'

model = dict(backbone=dict(arch=dict(widths=(24, 24, 48, 96))), head=dict(in_channels=96))

train_dataloader = dict(batch_size=64, dataset=dict(ann_file='teacher.txt'))
train_cfg = dict(max_epochs=10)
param_scheduler = dict(T_max=10, end=10)
optim_wrapper = dict(optimizer=dict(lr=0.1))
