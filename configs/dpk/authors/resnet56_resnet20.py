_base_ = '../../_base_/recipes/cifar100_authors.py'
from dpk_mm.models.methods import dpk, kd  # noqa: E402

model = dict(
    architecture=dict(
        backbone=dict(type='CIFARResNet', arch='resnet20'), head=dict(in_channels=64)
    ),
    teacher=dict(backbone=dict(type='CIFARResNet', arch='resnet56'), head=dict(in_channels=64)),
    # as the field publishes it; its keys are renamed on loading
    teacher_ckpt='checkpoints/cifar100/resnet56_vanilla/ckpt_epoch_240.pth',
    # Their KLDivLoss takes the mean over images and classes, times 100 classes: batchmean.
    distiller=dict(
        distill_losses=kd(tau=4.0)
        | dpk(
            'cifar100/resnet56_resnet20',
            stage_weights='cifar_code',
            position_embedding='sinusoidal',
        )
    ),
)
