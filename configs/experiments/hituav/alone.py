# HIT-UAV, infrared aerial images of 256 x 256, three classes, in COCO format. The grids split the training images into
# a part to train on and one to choose on, and put the paths in. A student has 100 images, its teacher 1,600.
_base_ = '../bccd/faster_rcnn_alone.py'

metainfo = dict(
    classes=('Person', 'Vehicle', 'Bicycle'),
    palette=[(213, 94, 0), (0, 114, 178), (0, 158, 115)],
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(256, 256), keep_ratio=True),
    dict(
        type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']
    ),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(256, 256), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    dataset=dict(metainfo=dict(_delete_=True, **metainfo), pipeline=train_pipeline, indices=100),
)
val_dataloader = dict(
    dataset=dict(metainfo=dict(_delete_=True, **metainfo), pipeline=test_pipeline)
)
test_dataloader = val_dataloader

# boxes of 8 to 80 pixels: anchors from 8 pixels on, and P2 for boxes below 28
model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[2])),
    roi_head=dict(bbox_roi_extractor=dict(finest_scale=14), bbox_head=dict(num_classes=3)),
)

train_cfg = dict(max_epochs=18)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', T_max=18, end=18, by_epoch=True, convert_to_iter_based=True),
]
