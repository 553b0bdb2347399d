_base_ = '../../_base_/cifar100_dpk.py'
from dpk_mm.models.pairs import dpk_transforms  # noqa: E402

model = dict(
    architecture=dict(backbone=dict(type='CIFARShuffleNetV1'), head=dict(in_channels=960)),
    teacher=dict(backbone=dict(type='CIFARResNet', arch='resnet32x4'), head=dict(in_channels=256)),
    # as the field publishes it; its keys are renamed on loading
    teacher_ckpt='checkpoints/cifar100/resnet32x4_vanilla/ckpt_epoch_240.pth',
    distiller=dict(
        distill_losses=dict(
            loss_dpk=dict(transforms=dpk_transforms('cifar100/resnet32x4_shufflenetv1'))
        )
    ),
)
