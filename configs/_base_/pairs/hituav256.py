# Infrared aerial images of 256 px (HIT-UAV), with the small Faster R-CNNs of the shapes.
# `tools/experiments/compare.py hituav256 --data FOLDER` gives the places. Images, lengths and learning rate are those
# of configs/experiments/hituav, so that a teacher of the one serves the other.
_base_ = './mini_faster_rcnn.py'

CLASSES = ('Person', 'Vehicle', 'Bicycle')
METAINFO = dict(classes=CLASSES, palette=[(220, 20, 60), (0, 114, 178), (0, 158, 115)])
SIDE = (256, 256)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=SIDE, keep_ratio=True),
    # seen from above, nothing has an upright side
    dict(
        type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']
    ),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=SIDE, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]

# boxes are 11 to 68 pixels wide, half of them below 20: anchors of 8 to 128 pixels at P2 to P6, and P2 for boxes below
# 28
HEADS = dict(
    rpn_head=dict(anchor_generator=dict(scales=[2])),
    roi_head=dict(bbox_roi_extractor=dict(finest_scale=14), bbox_head=dict(num_classes=3)),
)
model = dict(architecture=HEADS, teacher=HEADS)

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    # with all of them the student needs no teacher
    dataset=dict(metainfo=METAINFO, pipeline=train_pipeline, indices=100),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(metainfo=METAINFO, pipeline=test_pipeline),
)
test_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(metainfo=METAINFO, pipeline=test_pipeline),
)

train_cfg = dict(max_epochs=18)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', T_max=18, end=18, by_epoch=True, convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=2e-3))

comparison = dict(
    pair='mini/faster_rcnn',
    data=dict(kind='coco_split', num_val=300),
    # sixteen times the student's images
    teacher=dict(
        train_dataloader=dict(dataset=dict(indices=1600)),
        train_cfg=dict(max_epochs=8),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
            dict(
                type='CosineAnnealingLR', T_max=8, end=8, by_epoch=True, convert_to_iter_based=True
            ),
        ],
    ),
)
