_base_ = '../../imagenet.py'

model = dict(
    teacher=dict(backbone=dict(depth=50)),
    teacher_ckpt='torchvision://resnet50',
)
