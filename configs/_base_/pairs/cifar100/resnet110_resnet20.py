_base_ = '../../cifar100.py'

model = dict(
    architecture=dict(
        backbone=dict(type='CIFARResNet', arch='resnet20'), head=dict(in_channels=64)
    ),
    teacher=dict(backbone=dict(type='CIFARResNet', arch='resnet110'), head=dict(in_channels=64)),
    # as the field publishes it; its keys are renamed on loading
    teacher_ckpt='checkpoints/cifar100/resnet110_vanilla/ckpt_epoch_240.pth',
)
