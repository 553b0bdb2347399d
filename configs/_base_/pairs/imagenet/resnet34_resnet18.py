_base_ = '../../imagenet.py'

model = dict(
    teacher=dict(backbone=dict(depth=34), head=dict(in_channels=512)),
    teacher_ckpt='torchvision://resnet34',
)
