_base_ = '../_base_/mini_fashion_vit.py'

model = dict(
    backbone=dict(arch=dict(embed_dims=64, num_layers=6, num_heads=4, feedforward_channels=128)),
    head=dict(in_channels=64),
)

# Three times the students' images.
train_dataloader = dict(dataset=dict(indices=18000))
