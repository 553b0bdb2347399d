_base_ = '../_base_/mini_fashion.py'

model = dict(backbone=dict(stem_channels=16, base_channels=16), head=dict(in_channels=128))

# Three times the students' images.
train_dataloader = dict(dataset=dict(indices=18000))
