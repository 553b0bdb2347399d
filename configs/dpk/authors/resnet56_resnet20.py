_base_ = '../../_base_/recipes/cifar100_authors.py'
from dpk_mm.models.pairs import dpk_transforms  # noqa: E402

model = dict(
    architecture=dict(
        backbone=dict(type='CIFARResNet', arch='resnet20'), head=dict(in_channels=64)
    ),
    teacher=dict(backbone=dict(type='CIFARResNet', arch='resnet56'), head=dict(in_channels=64)),
    # as the field publishes it; its keys are renamed on loading
    teacher_ckpt='checkpoints/cifar100/resnet56_vanilla/ckpt_epoch_240.pth',
    distiller=dict(
        distill_losses=dict(loss_dpk=dict(transforms=dpk_transforms('cifar100/resnet56_resnet20')))
    ),
)
