_base_ = '../../cifar100.py'

model = dict(
    architecture=dict(
        backbone=dict(type='CIFARResNet', arch='resnet8x4'), head=dict(in_channels=256)
    ),
    teacher=dict(backbone=dict(type='CIFARResNet', arch='resnet32x4'), head=dict(in_channels=256)),
    # as the field publishes it; its keys are renamed on loading
    teacher_ckpt='checkpoints/cifar100/resnet32x4_vanilla/ckpt_epoch_240.pth',
)
