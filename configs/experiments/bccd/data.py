# BCCD, blood cells in COCO format (640x480, three classes), at four tenths of its size. The grids split the
# training images into a part to train on and one to choose on, and put the paths in.
_base_ = '../../_base_/mini_shapes.py'

metainfo = dict(
    classes=('RBC', 'WBC', 'Platelets'),
    palette=[(213, 94, 0), (0, 114, 178), (0, 158, 115)],
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(256, 192), keep_ratio=True),
    dict(
        type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']
    ),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(256, 192), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

# small batches: there are few images, and few epochs
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(metainfo=dict(_delete_=True, **metainfo), pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(metainfo=dict(_delete_=True, **metainfo), pipeline=test_pipeline),
)
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=10)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', T_max=10, end=10, by_epoch=True, convert_to_iter_based=True),
]

# Each logged value is the mean since the one before; mmengine does so with losses only.
log_processor = dict(mean_pattern=r'.*(loss|time|grad_norm|mask_ratio|similarity).*')
