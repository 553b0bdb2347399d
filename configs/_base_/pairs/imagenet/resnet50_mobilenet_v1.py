_base_ = '../../imagenet.py'

model = dict(
    architecture=dict(
        backbone=dict(_delete_=True, type='MobileNetV1'), head=dict(in_channels=1024)
    ),
    teacher_ckpt='torchvision://resnet50',
)
