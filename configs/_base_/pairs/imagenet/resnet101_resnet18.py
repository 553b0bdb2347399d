_base_ = '../../imagenet.py'

model = dict(
    teacher=dict(backbone=dict(depth=101)),
    teacher_ckpt='torchvision://resnet101',
)
