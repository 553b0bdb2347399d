# The recipe of DeiT, Swin and ConvNeXt in mmpretrain, for students of these families. The paper says
# that ConvNeXt-E is trained like the official models, and nothing of its transformer students.
_base_ = './imagenet_augmented.py'

# 1024 images a step in all, on eight GPUs
train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=128)
test_dataloader = val_dataloader
auto_scale_lr = dict(base_batch_size=1024)

train_cfg = dict(max_epochs=300)

optim_wrapper = dict(
    _delete_=True,
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05, eps=1e-8, betas=(0.9, 0.999)),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={
            '.cls_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0),
            '.relative_position_bias_table': dict(decay_mult=0.0),
            # of the transformation modules
            '_position.table': dict(decay_mult=0.0),
        },
    ),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=20),
]

model = dict(
    architecture=dict(
        head=dict(
            loss=dict(_delete_=True, type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')
        ),
        train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
    )
)
