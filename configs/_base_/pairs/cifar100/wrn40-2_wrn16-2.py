_base_ = '../../cifar100.py'

model = dict(
    architecture=dict(
        backbone=dict(type='CIFARWideResNet', arch='wrn_16_2'), head=dict(in_channels=128)
    ),
    teacher=dict(
        backbone=dict(type='CIFARWideResNet', arch='wrn_40_2'), head=dict(in_channels=128)
    ),
    # as the field publishes it; its keys are renamed on loading
    teacher_ckpt='checkpoints/cifar100/wrn_40_2_vanilla/ckpt_epoch_240.pth',
)
