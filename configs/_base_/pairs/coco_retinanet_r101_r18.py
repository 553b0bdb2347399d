_base_ = './coco_retinanet_r101_r50.py'

model = dict(
    architecture=dict(
        backbone=dict(depth=18, init_cfg=dict(checkpoint='torchvision://resnet18')),
        neck=dict(in_channels=[64, 128, 256, 512]),
    ),
    # not the neck: its lateral convolutions take the backbone's channels
    inherit=['bbox_head'],
)
