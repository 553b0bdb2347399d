# Fashion-MNIST as in the CNN pair, with a small vision transformer: 49 patches of 4x4 pixels.
_base_ = './mini_fashion.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='VisionTransformer',
        arch=dict(embed_dims=32, num_layers=4, num_heads=4, feedforward_channels=64),
        img_size=28,
        patch_size=4,
        in_channels=1,
    ),
    # the class token goes to the head
    neck=None,
    head=dict(
        _delete_=True,
        type='VisionTransformerClsHead',
        num_classes=10,
        in_channels=32,
        loss=dict(type='CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

optim_wrapper = dict(
    _delete_=True,
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={name: dict(decay_mult=0.0) for name in ('cls_token', 'pos_embed')},
    ),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=2, by_epoch=True, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        begin=2,
        T_max=13,
        end=15,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
