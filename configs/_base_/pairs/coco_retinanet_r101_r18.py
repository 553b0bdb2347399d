_base_ = './coco_retinanet_r101_r50.py'

model = dict(
    architecture=dict(
        backbone=dict(depth=18, init_cfg=dict(checkpoint='torchvision://resnet18')),
        neck=dict(in_channels=[64, 128, 256, 512]),
    ),
    # of the neck what fits: its lateral convolutions and P6's, fpn_convs.3, take the backbone's channels
    inherit=[*(f'neck.fpn_convs.{level}' for level in (0, 1, 2, 4)), 'bbox_head'],
)
