_base_ = '../../imagenet.py'

model = dict(
    teacher=dict(backbone=dict(depth=152)),
    teacher_ckpt='torchvision://resnet152',
)
