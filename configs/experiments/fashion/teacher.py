# Teacher of the experiments on Fashion-MNIST; grids set its width.
_base_ = './alone.py'

model = dict(backbone=dict(stem_channels=24, base_channels=24), head=dict(in_channels=192))

train_dataloader = dict(dataset=dict(indices=20000))
train_cfg = dict(max_epochs=4)
param_scheduler = dict(T_max=4, end=4)
# nothing to clip
optim_wrapper = dict(
    _delete_=True, optimizer=dict(type='SGD', lr=0.2, momentum=0.9, weight_decay=5e-4)
)
