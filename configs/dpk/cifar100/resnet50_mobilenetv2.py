_base_ = '../../_base_/cifar100_dpk_small_maps.py'
from dpk_mm.models.pairs import dpk_transforms  # noqa: E402

model = dict(
    architecture=dict(backbone=dict(type='CIFARMobileNetV2'), head=dict(in_channels=1280)),
    teacher=dict(backbone=dict(type='CIFARResNet50'), head=dict(in_channels=2048)),
    # as the field publishes it; its keys are renamed on loading
    teacher_ckpt='checkpoints/cifar100/ResNet50_vanilla/ckpt_epoch_240.pth',
    distiller=dict(
        distill_losses=dict(
            loss_dpk=dict(transforms=dpk_transforms('cifar100/resnet50_mobilenetv2'))
        )
    ),
)
