_base_ = '../../_base_/imagenet_dpk_efficientnet.py'
from dpk_mm.models.pairs import dpk_transforms  # noqa: E402

model = dict(
    teacher=dict(backbone=dict(arch='b1'), head=dict(in_channels=1280)),
    teacher_ckpt=(
        'https://download.openmmlab.com/mmclassification/v0/efficientnet/'
        'efficientnet-b1_3rdparty_8xb32_in1k_20220119-002556d9.pth'
    ),
    distiller=dict(
        distill_losses=dict(
            loss_dpk=dict(transforms=dpk_transforms('imagenet/efficientnet-b1_resnet18'))
        )
    ),
)
