# DeepPCB, defects of printed circuits, 320 x 320, six classes, in COCO format. The grids split the training images
# into a part to train on and one to choose on, and put the paths in. A student has 60 images, its teacher 700. Trained
# long, every network finds them all, so the schedules are short.
_base_ = '../bccd/faster_rcnn_alone.py'

metainfo = dict(
    classes=('open', 'short', 'mousebite', 'spur', 'copper', 'pin-hole'),
    palette=[
        (0, 114, 178),
        (230, 159, 0),
        (0, 158, 115),
        (204, 121, 167),
        (213, 94, 0),
        (86, 180, 233),
    ],
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(320, 320), keep_ratio=True),
    dict(
        type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']
    ),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(320, 320), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    dataset=dict(metainfo=dict(_delete_=True, **metainfo), pipeline=train_pipeline, indices=60),
)
val_dataloader = dict(
    dataset=dict(metainfo=dict(_delete_=True, **metainfo), pipeline=test_pipeline)
)
test_dataloader = val_dataloader

# boxes of 13 to 30 pixels: anchors of 16 and 32, and P2 and P3 for them in the second stage
model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[4])),
    roi_head=dict(bbox_roi_extractor=dict(finest_scale=8), bbox_head=dict(num_classes=6)),
)

train_cfg = dict(max_epochs=30)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', T_max=30, end=30, by_epoch=True, convert_to_iter_based=True),
]
