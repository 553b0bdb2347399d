_base_ = '../../cifar100.py'

model = dict(
    architecture=dict(backbone=dict(type='CIFARVGG', arch='vgg8'), head=dict(in_channels=512)),
    teacher=dict(backbone=dict(type='CIFARVGG', arch='vgg13'), head=dict(in_channels=512)),
    # as the field publishes it; its keys are renamed on loading
    teacher_ckpt='checkpoints/cifar100/vgg13_vanilla/ckpt_epoch_240.pth',
)
