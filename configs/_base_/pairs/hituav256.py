# Infrared aerial images of 256 px (HIT-UAV), with the small Faster R-CNNs of the shapes.
# `tools/experiments/compare.py hituav256 --data FOLDER` gives the places.
_base_ = './mini_faster_rcnn.py'

CLASSES = ('Person', 'Vehicle', 'Bicycle')
METAINFO = dict(classes=CLASSES, palette=[(220, 20, 60), (0, 114, 178), (0, 158, 115)])
SIDE = (256, 256)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=SIDE, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
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

# boxes are 11 to 68 pixels wide, half of them below 20: anchors of 8 to 128 pixels at P2 to P6
HEADS = dict(
    rpn_head=dict(anchor_generator=dict(scales=[2])),
    roi_head=dict(bbox_head=dict(num_classes=3)),
)
model = dict(architecture=HEADS, teacher=HEADS)

train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    # with all of them the student needs no teacher
    dataset=dict(metainfo=METAINFO, pipeline=train_pipeline, indices=300),
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

train_cfg = dict(max_epochs=8)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', T_max=8, end=8, by_epoch=True, convert_to_iter_based=True),
]

comparison = dict(
    pair='mini/faster_rcnn',
    data=dict(kind='coco_split', num_val=150),
    # four times the student's images
    teacher=dict(
        train_dataloader=dict(dataset=dict(indices=1200)),
        train_cfg=dict(max_epochs=6),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
            dict(
                type='CosineAnnealingLR', T_max=6, end=6, by_epoch=True, convert_to_iter_based=True
            ),
        ],
    ),
)
